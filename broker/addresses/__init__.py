"""Addresses: strings with a type (queue, topic, anycast, multicast) in the space of a tenant."""
