"""The NIC's figures in the Prometheus text format, and the small HTTP server that a scraper asks for them.

What is shown is decided here and nowhere else; the figures come from the link's statistics. Every sample has the label
`mac`, and those of the serial link `port`, so that the NICs of a site can be scraped together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import structlog

from meshwire.link import LinkState
from meshwire.link_stats import LinkStats
from nic_sim.errors import ListenError
from nic_sim.settings import HostPort

__all__ = ["MetricsServer", "link_metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_log = structlog.get_logger(__name__)
_REQUEST_S: Final = 5.0
_MAX_REQUEST_OCTETS: Final = 8192
_NAME: Final = "meshwire_nic_link_"

_COUNTERS: Final = (
    ("frames_total", "Well-formed HDLC frames.", (("frames_in", "in"), ("frames_out", "out"))),
    ("octets_total", "Octets on the serial line.", (("octets_in", "in"), ("octets_out", "out"))),
    ("check_errors_total", "Frames with a wrong check sequence.", (("check_errors", ""),)),
    ("timeouts_total", "Answers that did not come in time.", (("timeouts", ""),)),
    ("retries_total", "Questions (SNRM, RR) put again.", (("retries", ""),)),
    ("retransmissions_total", "I frames sent again.", (("retransmissions", ""),)),
    ("resets_total", "Links that ended otherwise than by release.", (("resets", ""),)),
    ("ups_total", "Links that came up.", (("link_ups", ""),)),
    ("port_losses_total", "Times the port was lost.", (("pipe_losses", ""),)),
    ("requests_total", "Requests that the board answered.", (("requests", ""),)),
    ("notifications_total", "Notifications of the board.", (("notifications", ""),)),
)
"""Name, help, and for each sample the field of LinkStats with its label `direction`."""

_ROUND_TRIPS: Final = (
    ("last", "round_trip_last_s"),
    ("mean", "round_trip_mean_s"),
    ("longest", "round_trip_most_s"),
)


def link_metrics(mac: str, port: str, stats: LinkStats, silence: Mapping[str, object]) -> str:
    """All samples of one NIC's serial link.

    Args:
        mac: label `mac`.
        port: label `port`.
        stats: the link's figures.
        silence: `SilenceAlarm.report()`; empty where nothing is watched.
    """
    return "\n".join(_lines(f'mac="{_escaped(mac)}",port="{_escaped(port)}"', stats, silence)) + "\n"


def _lines(labels: str, stats: LinkStats, silence: Mapping[str, object]) -> Iterator[str]:
    for name, text, samples in _COUNTERS:
        yield from _head(name, text, "counter")
        for field, direction in samples:
            more = f',direction="{direction}"' if direction else ""
            yield f"{_NAME}{name}{{{labels}{more}}} {getattr(stats, field)}"
    yield from _head("discarded_total", "Octets or frames that led to nothing, by reason.", "counter")
    for reason, count in stats.discarded.items():
        yield f'{_NAME}discarded_total{{{labels},reason="{reason}"}} {count}'
    yield from _head("round_trip_seconds", "From a request to the board's response.", "gauge")
    for which, field in _ROUND_TRIPS:
        yield f'{_NAME}round_trip_seconds{{{labels},which="{which}"}} {getattr(stats, field):.6f}'
    yield from _head("state", "1 for the state that the link is in.", "gauge")
    for state in LinkState:
        yield f'{_NAME}state{{{labels},state="{state.value}"}} {int(stats.state == state.value)}'
    if silence:
        yield from _head("silent_seconds", "Seconds since the board's last CoAP message.", "gauge")
        yield f"{_NAME}silent_seconds{{{labels}}} {silence['silent_for_s']}"
        yield from _head("silent", "1 while the silent-link alarm stands.", "gauge")
        yield f"{_NAME}silent{{{labels}}} {int(bool(silence['alarm']))}"
        yield from _head("silent_alarms_total", "Silent-link alarms.", "counter")
        yield f"{_NAME}silent_alarms_total{{{labels}}} {silence['alarms']}"
        yield from _head("board_resets_total", "Resets of a silent board.", "counter")
        yield f"{_NAME}board_resets_total{{{labels}}} {silence['board_resets']}"


def _head(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP {_NAME}{name} {text}"
    yield f"# TYPE {_NAME}{name} {kind}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class MetricsServer:
    """HTTP/1.0 with one page, `/metrics`: a scraper needs no more, and the NIC has no web framework to carry.

    Args:
        address: where to listen; port 0 lets the system choose.
        text: makes the page.
    """

    def __init__(self, address: HostPort, text: Callable[[], str]) -> None:
        self.port = 0
        """The TCP port, once it listens."""
        self._address = address
        self._text = text

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            ListenError: MW-NIC-004, the address can't be bound.
        """
        try:
            server = await asyncio.start_server(
                self._serve, self._address.host, self._address.port, limit=_MAX_REQUEST_OCTETS
            )
        except OSError as error:
            raise ListenError(
                f"the metrics page can't listen on {self._address}",
                evidence=str(error),
                fix="choose another --metrics HOST:PORT (port 0 lets the system choose)",
                code="MW-NIC-004",
            ) from None
        async with server:
            self.port = server.sockets[0].getsockname()[1]
            _log.info("metrics page", address=self._address.host, port=self.port)
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_S):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(request))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        path = rest.split(b" ", 1)[0].split(b"?", 1)[0]
        if path != b"/metrics":
            return _page("404 Not Found", "only /metrics is here\n")
        if method not in (b"GET", b"HEAD"):
            return _page("405 Method Not Allowed", "only GET\n")
        return _page("200 OK", self._text(), with_body=method == b"GET")


def _page(status: str, text: str, *, with_body: bool = True) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.0 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
