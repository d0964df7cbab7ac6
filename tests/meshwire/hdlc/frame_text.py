"""Frames as short text, so that a test reads like a transcript: ``I 0,1 P hello``, ``RR 1 P``, ``SNRM P``, ``UA P``.

Not a test module: ``conftest.py`` hands it out as the fixture ``text``. ``P`` stands for P and for F.
"""

from __future__ import annotations

from meshwire.hdlc.address import Address
from meshwire.hdlc.control import ControlField, FrameKind, decode_control
from meshwire.hdlc.deframer import Deframer
from meshwire.hdlc.events import DataReceived, Event, FrameDiscarded, LinkDown, LinkUp
from meshwire.hdlc.frame import Frame, encode_frame
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.secondary import SecondaryStation

ONE = Address(1)
BOARD_UA = bytes.fromhex("81 80 14 05 02 00 ff 06 02 00 ff 07 04 00 00 00 01 08 04 00 00 00 01")


def octets(*lines: str) -> bytes:
    """Encode frames given as text. ``UA P +`` carries the board's parameters, a kind of two hex digits is raw."""
    return b"".join(encode_frame(_frame(line)) for line in lines)


def _frame(line: str) -> Frame:
    kind, *rest = line.split(" ")
    numbers = rest.pop(0).split(",") if rest and rest[0][:1].isdigit() else []
    poll_final = rest[:1] == ["P"]
    rest = rest[poll_final:]
    info = " ".join(rest)
    if len(kind) == 2 and kind not in FrameKind.__members__:
        control = decode_control(int(kind, 16))
    elif kind == "I":
        control = ControlField(FrameKind.I, int(numbers[0]), int(numbers[1]), poll_final)
    else:
        control = ControlField(FrameKind[kind], 0, int(numbers[0]) if numbers else 0, poll_final)
    segmented = info.endswith("…")
    return Frame(ONE, ONE, control, BOARD_UA if info == "+" else info.removesuffix("…").encode(), segmented)


def lines(data: bytes) -> list[str]:
    """Decode octets to text. A parameter field is shown as ``+``, an information field that is no text as hex."""
    return [_line(item) if isinstance(item, Frame) else f"? {item.reason}" for item in Deframer().feed(data)]


def _line(frame: Frame) -> str:
    control = frame.control
    words = [f"{control.octet:02x}" if control.kind is FrameKind.UNKNOWN else control.kind.value]
    if control.kind is FrameKind.I:
        words.append(f"{control.ns},{control.nr}")
    elif control.kind in (FrameKind.RR, FrameKind.RNR, FrameKind.REJ):
        words.append(str(control.nr))
    words += ["P"] * control.poll_final
    if frame.info.startswith(b"\x81\x80"):
        words.append("+")
    elif frame.info:
        printable = frame.info.isascii() and frame.info.decode().isprintable()
        words.append(frame.info.decode() if printable else frame.info.hex(" "))
    return " ".join(words) + ("…" if frame.segmented else "")


def told(station: PrimaryStation | SecondaryStation) -> list[str]:
    """Drain a station's events as text: ``up``, ``down no_answer unsent=1 uncertain=2``, ``got hi``, ``drop fcs``."""
    texts = []
    while (event := station.next_event()) is not None:
        texts.append(_event(event))
    return texts


def _event(event: Event) -> str:
    match event:
        case LinkUp():
            return "up"
        case LinkDown(reason, unsent, uncertain):
            handles = [
                f"{name}={','.join(map(str, value))}"
                for name, value in (("unsent", unsent), ("uncertain", uncertain))
                if value
            ]
            return " ".join(["down", reason.value, *handles])
        case DataReceived(sdu):
            return f"got {sdu.decode()}"
        case FrameDiscarded(reason, _):
            return f"drop {reason.value}"


class Desk:
    """One station under test, with a clock: what it sends and tells since the last look, as text."""

    def __init__(self, station: PrimaryStation | SecondaryStation) -> None:
        self.station = station
        self.now = 100.0

    def hear(self, *frames: str) -> None:
        self.station.receive_data(octets(*frames), self.now)

    def look(self) -> list[str]:
        """What the station put on the line since the last look."""
        return lines(self.station.data_to_send(self.now))

    def told(self) -> list[str]:
        return told(self.station)

    def wait(self) -> float:
        """Let time pass to the station's deadline; return how long that took."""
        deadline = self.station.next_deadline()
        assert deadline is not None, "the station waits for nothing"
        passed, self.now = deadline - self.now, max(deadline, self.now)
        self.station.handle_timer(self.now)
        return passed
