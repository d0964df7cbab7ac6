"""The messaging service: accounts, the instances (brokers) that serve them, and the endpoints under which they are
reached.

`rules.py` decides what may be assigned and connected, `service.py` stores it, `publication.py` tells brokers,
`announcements.py` hears of them. A tenant is an account.
"""
