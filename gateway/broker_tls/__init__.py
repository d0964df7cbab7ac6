"""TLS towards the site's broker: its settings, a context for each connection, and failures in words."""
