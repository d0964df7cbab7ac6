"""NICs with their boards as light objects, for load: no socket, task or CoAP context for each of them.

`nic.py` is what one NIC does and `board.py` what its board does, both without I/O; `wire.py` is what lies between them;
`wheel.py` keeps all times; `transport.py` is the one socket; `fleet.py` drives. The mesh uses the same NICs.
"""
