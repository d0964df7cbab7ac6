"""A light NIC's own resources: the real NIC's URI table, made for one request and forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meshwire.coap import CON, Message, codes, options
from meshwire.identity import DeviceId
from nic_sim.fleet.board import RESOURCE
from nic_sim.instruments import Instruments
from nic_sim.observation import Observation, ObservationRow, State, row_of
from nic_sim.resources import ResourceError, build_resources
from nic_sim.server import answer_own

if TYPE_CHECKING:
    from nic_sim.fleet.nic import Host, LightNic

__all__ = ["answer_own_resource"]


class _View:
    """One NIC as its resources see it."""

    def __init__(self, nic: LightNic, host: Host, now: float) -> None:
        self.device: DeviceId = nic.mac
        self.instruments: Instruments = host.instruments(nic)
        self._nic = nic
        self._host = host
        self._now = now

    def unix_time(self) -> float:
        return self._host.unix_time(self._now)

    def rows(self) -> list[ObservationRow]:
        return [row_of(item, self._now) for item in self.observations(None)]

    def observations(self, path: str | None) -> list[Observation]:
        if path not in (None, RESOURCE):
            return []
        return [Observation(RESOURCE, "sens", b"ob", epoch=self._nic.epoch, state=State.ACTIVE)]

    def renew(self, items: list[Observation]) -> None:
        pass  # it always holds: the wire to a light board loses nothing

    def cancel(self, items: list[Observation]) -> None:
        raise ResourceError(codes.FORBIDDEN, "a light NIC observes its sensor for ever")

    def reboot_seen(self) -> None:
        pass  # a light board tells of a reboot by its first report

    def link_report(self) -> Mapping[str, object]:
        return {"wire": type(self._nic.wire).__name__}

    def stats_report(self) -> Mapping[str, object]:
        return {}  # a light wire keeps no figures beside the stations' own

    def metrics(self) -> str:
        return ""

    def frames(self, after: int, lease_s: float) -> bytes:
        return self._host.watched.read(self._nic, after, lease_s, self._now, self.unix_time())

    def unwatch(self) -> None:
        self._host.watched.end(self._nic)

    def uplink_report(self) -> Mapping[str, object]:
        return {"registered": self._nic.is_registered, "queued": len(self._nic.waiting)}

    def coap_report(self) -> Mapping[str, object]:
        return {}


def answer_own_resource(request: Message, nic: LightNic, host: Host, now: float) -> Message:
    """The response of an own resource; failures are answered as the real NIC answers them."""
    if request.option(options.PROXY_URI) is not None or request.option(options.PROXY_SCHEME) is not None:
        return _failure(nic, codes.PROXYING_NOT_SUPPORTED, "not a forward proxy; ask for /snsr/…")
    if request.option(options.OBSERVE) is not None:
        request = request.without(options.OBSERVE)
    try:
        return answer_own(request, build_resources(_View(nic, host, now)))
    except ResourceError as error:
        return _failure(nic, error.code, error.diagnostic)


def _failure(nic: LightNic, code: int, diagnostic: str) -> Message:
    return Message(CON, code, 0, b"", (), f"nic {nic.mac}: {diagnostic}".encode())
