"""RabbitMQ: its configuration, and private nodes for trials."""
