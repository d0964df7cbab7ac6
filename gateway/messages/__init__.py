"""MQTT messages over HTTP: publish, and consume by long poll or as an event stream, in the caller's own name.

The gateway logs in at the broker with the caller's token, so the broker judges the rights, counts connection and
messages for the caller's tenant, and ends the connection with the token. The gateway's own rights play no part.
"""
