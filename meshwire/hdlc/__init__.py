"""HDLC for sensor boards (IEC 62056-46, frame format type 3), without input or output: octets and time go in, octets,
events and a deadline come out.

Begin with ``primary`` and ``secondary`` (the stations), ``profile`` (what differs between boards) and ``events`` (what
a station tells). ``frame`` and ``deframer`` are the codec; everything else serves these.
"""
