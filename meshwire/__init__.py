"""What two processes of a meshwire site must agree on: identities, topics, notifications, codecs, the link."""

__version__ = "0.1.0"
