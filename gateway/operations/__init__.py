"""The broker's own affairs, asked for while it runs: connections, topics in use, addresses, plans, roles, listeners.

`BrokerDesk` (`desk.py`) is what pages work with. How a broker is asked depends on whose it is: ours over MQTT
(`embedded.py` on `control_line.py`), RabbitMQ by its management API (`rabbitmq.py`), Mosquitto by its `$SYS` topics
(`mosquitto.py`). What an engine can't do it says.
"""
