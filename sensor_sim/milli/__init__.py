"""The Milli reference board, octet for octet: link machine, CoAP server, observers, and the station that joins them.

The measured facts are in the dialect document, parts A.7–A.10 and B; what it leaves open and how it was decided here
is in docs/reference/sensor-board.md. Nothing in this package reads a clock, sleeps, or logs.
"""
