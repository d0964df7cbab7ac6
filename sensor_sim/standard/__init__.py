"""The board as it might be built today: a plain RFC 7252, 7641 and 7959 server on a standing link.

Same sensors and same paths as the Milli board, without its quirks; what it answers is in
docs/reference/sensor-board.md.
"""
