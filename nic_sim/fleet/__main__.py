"""`meshwire fleet`: thousands of NICs with a board each, in one process, at a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import signal
import socket
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from meshwire.cli import main
from meshwire.errors import ExitCode
from meshwire.identity import DeviceId, IdentityError
from nic_sim.errors import NicError
from nic_sim.fleet.addresses import LoopbackAddresses, PrefixAddresses
from nic_sim.fleet.fleet import FIRST_MAC, Addresses, Fleet, Resources, device_id, resources_now
from nic_sim.fleet.nic import NicPlan
from nic_sim.fleet.transport import PacketSocket, PortSockets, SocketAddress, Transport, routes_to_us
from nic_sim.fleet.wire import WireKind

__all__ = ["app"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

REPORT_EVERY_S: Final = 5.0
DEFAULT_GATEWAY: Final = "coap://127.0.0.1:5683"


class AddressKind(StrEnum):
    """`--addresses`."""

    AUTO = "auto"
    PREFIX = "prefix"
    LOOPBACK = "loopback"
    PORT = "port"


@app.command()
def fleet(
    nics: Annotated[int, typer.Option("--nics", "-n", help="How many.", min=1)] = 1000,
    gateway: Annotated[
        list[str] | None, typer.Option(help="coap://HOST[:PORT]; repeat: NICs share them by MAC.")
    ] = None,
    period: Annotated[float, typer.Option(help="Seconds between readings of a NIC.", min=0.1)] = 60.0,
    spread: Annotated[float | None, typer.Option(help="Starts are spread over so many seconds.", min=0)] = None,
    register: Annotated[float, typer.Option(help="Seconds between registrations.", min=1)] = 3600.0,
    wire: Annotated[WireKind, typer.Option(help="Between NIC and board.")] = WireKind.NONE,
    addresses: Annotated[AddressKind, typer.Option(help="How NICs get addresses of their own.")] = AddressKind.AUTO,
    prefix: Annotated[str, typer.Option(help="IPv6 /64 that is routed to loopback.")] = "fd00:5ca1:e::/64",
    first_mac: Annotated[str, typer.Option(help="MAC of the first NIC; the others follow.")] = f"{FIRST_MAC:016x}",
    seed: Annotated[int, typer.Option(help="For values and waits.")] = 1,
    for_s: Annotated[float | None, typer.Option("--for", help="End after so many seconds.", min=1)] = None,
    write_import: Annotated[
        Path | None, typer.Option(help="Write the NICs as CSV (mac,tenant,type) for `meshwire device import`, and end.")
    ] = None,
    tenant: Annotated[str, typer.Option("--tenant", "-T", help="Tenant for --write-import.")] = "riverside",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Run a fleet until Ctrl-C; it prints what flowed and what it costs. Exit code 1 when nothing was acknowledged."""
    first = _first_mac(first_mac)
    if write_import is not None:
        rows = (f"{device_id(number, first)},{tenant},MILLI\n" for number in range(nics))
        write_import.write_text("mac,tenant,type\n" + "".join(rows))
        typer.echo(f"{nics} NICs written to {write_import}", err=True)
        return
    plan = NicPlan(period_s=period, register_s=register, gateways=len(gateway or (1,)))
    targets = [_target(text) for text in gateway or [DEFAULT_GATEWAY]]
    before, began = resources_now(), time.monotonic()
    transport, scheme = _transport(addresses, prefix, first, nics, targets)
    made = Fleet(nics, plan, transport, scheme, targets, seed=seed, spread_s=spread, wire=wire, first_mac=first)
    built_s = time.monotonic() - began
    _say(
        as_json, {"event": "ready", "nics": nics, "built_s": round(built_s, 3), **_costs(before, resources_now(), nics)}
    )
    asyncio.run(_run(made, for_s, as_json, before))
    if not made.counters["taken"]:
        raise NicError(
            "no reading was acknowledged",
            evidence=f"{made.counters['made']} made, {made.counters['registrations']} registrations acknowledged",
            fix="is a gateway at --gateway, and are the NICs provisioned (--write-import FILE, then device import)?",
            code="MW-NIC-030",
        )


async def _run(made: Fleet, for_s: float | None, as_json: bool, before: Resources) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    task = asyncio.create_task(made.run())
    end = None if for_s is None else loop.time() + for_s
    while not (ended.is_set() or task.done()) and (end is None or loop.time() < end):
        left = REPORT_EVERY_S if end is None else min(REPORT_EVERY_S, max(0.0, end - loop.time()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await ended.wait()
        _say(as_json, {"event": "report", **_figures(made), **_costs(before, resources_now(), len(made.nics))})
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _figures(made: Fleet) -> dict[str, object]:
    times = made.acknowledged_after
    return {
        "made": made.counters["made"],
        "taken": made.counters["taken"],
        "dropped": made.counters["dropped"],
        "queued": made.queued,
        "registrations": made.counters["registrations"],
        "answers": made.counters["answers"],
        "p50_ms": round(times.percentile_s(50) * 1000, 1),
        "p99_ms": round(times.percentile_s(99) * 1000, 1),
    }


def _costs(before: Resources, now: Resources, nics: int) -> dict[str, object]:
    return {
        "kb_per_nic": round((now.resident_octets - before.resident_octets) / 1024 / nics, 2),
        "cpu_s": round(now.processor_s - before.processor_s, 2),
        "descriptors": now.descriptors,
        "threads": now.threads,
    }


def _say(as_json: bool, facts: dict[str, object]) -> None:
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        event, *rest = facts.items()
        typer.echo(f"{event[1]}: " + ", ".join(f"{name} {value}" for name, value in rest))
    sys.stdout.flush()


def _transport(
    kind: AddressKind, prefix: str, first_mac: int, nics: int, gateways: list[SocketAddress]
) -> tuple[Transport, Addresses]:
    """The best that this system allows, or what was asked for."""
    six = not all(host.startswith("::ffff:127.") for host, *_ in gateways)
    if kind is AddressKind.PORT:
        return PortSockets("::1" if six else "::ffff:127.0.0.1", nics), _Numbers()
    routed = PrefixAddresses(_prefix(prefix), first_mac)
    if kind is AddressKind.PREFIX or (six and kind is AddressKind.AUTO):
        if not routes_to_us(routed.of(0, device_id(0, first_mac))):
            raise NicError(
                f"{prefix} is not routed to this machine",
                evidence="a datagram to the first NIC did not come back",
                fix=f"ip -6 route add local {prefix} dev lo (in its own namespace: unshare -Urn), or --addresses port",
                code="MW-NIC-031",
            )
        return PacketSocket(), routed
    return PacketSocket(), LoopbackAddresses()


class _Numbers(LoopbackAddresses):
    """For `PortSockets`: the "address" is the NIC's number."""

    def of(self, number: int, mac: DeviceId) -> bytes:
        return number.to_bytes(16, "big")

    def number(self, address: bytes) -> int:
        return int.from_bytes(address, "big")


def _prefix(text: str) -> bytes:
    try:
        network = ipaddress.IPv6Network(text)
        if network.prefixlen != 64:
            raise ValueError(f"{text} is no /64")
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--prefix") from None
    return network.network_address.packed[:8]


def _first_mac(text: str) -> int:
    try:
        return int(DeviceId.parse(text).value, 16)
    except IdentityError as error:
        raise typer.BadParameter(str(error), param_hint="--first-mac") from None


def _target(text: str) -> SocketAddress:
    """`coap://HOST[:PORT]` as the socket wants it."""
    rest = text.removeprefix("coap://").rstrip("/")
    host, _, port = (
        rest.rpartition(":") if rest.rpartition(":")[2].isdigit() and not rest.endswith("]") else (rest, "", "5683")
    )
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), int(port), socket.AF_INET6, socket.SOCK_DGRAM, 0, socket.AI_V4MAPPED
        )
    except OSError as error:
        raise NicError(
            f"the gateway {text} has no address", evidence=str(error), fix="--gateway coap://HOST[:PORT]"
        ) from None
    address = found[0][4]
    return str(address[0]), int(address[1]), 0, 0


if __name__ == "__main__":
    raise SystemExit(main(["fleet", *sys.argv[1:]]) or ExitCode.OK)
