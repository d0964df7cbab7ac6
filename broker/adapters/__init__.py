"""Brokers of other makers: what each can do, and its configuration made from ours."""
