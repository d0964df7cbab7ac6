"""MQTT connection aliases: named connections to any number of brokers, beside the bridge's own.

An alias publishes the notifications that its rules select, from a durable queue of its own, and carries triggers:
named subscriptions whose messages run an action. Aliases, triggers, packages, truststores and keystores come from the
configuration file or from the site's store; `catalogue.py` is the view of both.
"""
