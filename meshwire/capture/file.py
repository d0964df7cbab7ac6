"""CaptureFile: Records as packets of a pcapng stream with two interfaces.

    coap   link type 252   each SDU, for Wireshark as it is
    hdlc   link type 147   each frame and whatever else was on the line, for the dissector in hardware/wireshark

Each packet is one unbuffered write, so that a reader never sees half a block and always sees the newest.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from meshwire import __version__
from meshwire.capture.errors import CaptureError, CaptureProblem
from meshwire.capture.exported_pdu import coap_pdu
from meshwire.capture.pcapng import (
    Direction,
    Interface,
    LinkType,
    enhanced_packet,
    interface_description,
    section_header,
)
from meshwire.capture.record import Record, Side

__all__ = ["COAP", "HDLC", "CaptureFile", "open_capture"]

COAP: Final = Interface(LinkType.EXPORTED_PDU, "coap", "CoAP messages, put together from frames")
HDLC: Final = Interface(LinkType.USER0, "hdlc", "HDLC frames with their flags, and noise")
_INTERFACES: Final = (COAP, HDLC)
_DIRECTIONS: Final = {Side.NIC: Direction.OUTBOUND, Side.BOARD: Direction.INBOUND}


class CaptureFile:
    """A sink for Records; callable.

    Args:
        stream: unbuffered; a new section is begun in it. Closed by `close`.
        line: name of the line, such as the PORT; part of the interfaces' descriptions.
    """

    def __init__(self, stream: BinaryIO, line: str = "") -> None:
        self.packets = 0
        """Packets written so far."""
        self._stream = stream
        described = [
            Interface(each.link_type, each.name, f"{line}: {each.description}" if line else each.description)
            for each in _INTERFACES
        ]
        self._write(section_header(f"meshwire {__version__}") + b"".join(map(interface_description, described)))

    def __call__(self, record: Record) -> None:
        """Write a record: the frame first, then the SDU that it completes."""
        comments = [record.note] if record.note else []
        if record.reason is not None:
            comments.append(f"no frame: {record.reason.value}")
        self._packet(HDLC, record, record.octets, comments)
        if record.sdu:
            self._packet(COAP, record, coap_pdu(record.sender, record.sdu), comments)

    def __enter__(self) -> CaptureFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()

    def _packet(self, interface: Interface, record: Record, octets: bytes, comments: list[str]) -> None:
        number = _INTERFACES.index(interface)
        direction = _DIRECTIONS[record.sender]
        self._write(enhanced_packet(number, record.at_ns, octets, direction=direction, comments=comments))
        self.packets += 1

    def _write(self, octets: bytes) -> None:
        """All of it: an unbuffered stream may take less than it is given."""
        view = memoryview(octets)
        while view:
            view = view[self._stream.write(view) :]


def open_capture(path: Path, line: str = "", *, append: bool = False) -> CaptureFile:
    """A capture file at `path`.

    Args:
        path: replaced when it exists, unless `append`.
        line: name of the line.
        append: begin a new section behind what is there.

    Raises:
        CaptureError: MW-CAP-001.
    """
    try:
        return CaptureFile(path.open("ab" if append else "wb", buffering=0), line)
    except OSError as error:
        raise CaptureError(
            CaptureProblem.NOT_WRITABLE,
            f"cannot write the capture {path}",
            evidence=error.strerror or str(error),
            fix="name a file in a folder that exists and may be written, or - for standard output",
        ) from None
