"""Mosquitto with its dynamic-security plug-in: generated files, live changes, short-lived clients for tokens."""
