"""The jobs of `meshwire bench fleet`, each in a process of its own: `python -m bench.fleet_load JOB` prints JSON."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from meshwire.mqtt import Connect, PacketStream, ProtocolVersion, PubAck, Publish, Side, Subscribe, TopicSubscription
from meshwire.mqtt import encode as encode_mqtt
from nic_sim.fleet.addresses import LoopbackAddresses
from nic_sim.fleet.fleet import Fleet, resources_now
from nic_sim.fleet.histogram import Histogram
from nic_sim.fleet.nic import NicPlan
from nic_sim.fleet.transport import PacketSocket
from nic_sim.fleet.wire import WireKind

TENANT: Final = "acme"
V5: Final = ProtocolVersion.V5
PATIENCE_S: Final = 120.0


def _fleet(job: dict[str, Any], plan: NicPlan, spread_s: float) -> Fleet:
    gateway = ("::ffff:127.0.0.1", int(job["gateway"]), 0, 0)
    return Fleet(
        int(job["nics"]), plan, PacketSocket(), LoopbackAddresses(), [gateway],
        spread_s=spread_s, wire=WireKind(job.get("wire", "none")),
    )  # fmt: skip


async def start(job: dict[str, Any]) -> dict[str, float]:
    """Make the NICs, let all register; then, for `idle_s`, one reading a minute each."""
    gc.collect()
    before, began = resources_now(), time.perf_counter()
    fleet = _fleet(job, NicPlan(period_s=60), spread_s=job["nics"] / 5000)
    task = asyncio.create_task(fleet.run())
    async with asyncio.timeout(PATIENCE_S):
        await fleet.all_registered.wait()
    all_s = time.perf_counter() - began
    after = resources_now()
    result = {
        "all_s": all_s,
        "kb_per_nic": (after.resident_octets - before.resident_octets) / 1024 / job["nics"],
        "idle_cpu": 0.0,
    }
    if job["idle_s"]:
        await asyncio.sleep(1)  # the last answers are under way
        used, clock = resources_now().processor_s, time.perf_counter()
        await asyncio.sleep(job["idle_s"])
        result["idle_cpu"] = (resources_now().processor_s - used) / (time.perf_counter() - clock)
    await _end(task)
    return result


async def once(job: dict[str, Any]) -> dict[str, float]:
    """Every NIC starts, registers and reports once."""
    before, began = resources_now(), time.perf_counter()
    fleet = _fleet(job, NicPlan(period_s=1e6), spread_s=job["nics"] / 5000)
    task = asyncio.create_task(fleet.run())
    async with asyncio.timeout(PATIENCE_S):
        await fleet.all_reported.wait()
    all_s, after = time.perf_counter() - began, resources_now()
    await _end(task)
    kb = (after.resident_octets - before.resident_octets) / 1024 / job["nics"]
    counters = fleet.counters
    return {
        "all_s": all_s, "kb_per_nic": kb, "registered": counters["registrations"], "reported": counters["taken"],
    }  # fmt: skip


async def traffic(job: dict[str, Any]) -> dict[str, float]:
    """Readings for `seconds`, to a subscriber of the broker; then what is under way may arrive."""
    subscriber = _Subscriber()
    reader, writer = await asyncio.open_connection("127.0.0.1", job["broker"])
    subscriber.begin(writer, job)
    listening = asyncio.create_task(subscriber.listen(reader))
    await subscriber.subscribed.wait()
    period_s = float(job["period_s"])
    fleet = _fleet(job, NicPlan(period_s=period_s), spread_s=period_s)
    task = asyncio.create_task(fleet.run())
    began = time.perf_counter()
    await asyncio.sleep(job["seconds"])
    fleet.stop_reporting()
    span_s = time.perf_counter() - began
    for _ in range(600):
        if not fleet.queued and len(subscriber.keys) >= fleet.counters["made"]:
            break
        await asyncio.sleep(0.05)
    await _end(task)
    await _end(listening)
    writer.close()
    times = subscriber.times
    return {
        "made": fleet.counters["made"],
        "distinct": len(subscriber.keys),
        "delivered": times.count,
        "duplicates": times.count - len(subscriber.keys),
        "p50_s": times.percentile_s(50),
        "p99_s": times.percentile_s(99),
        "span_s": span_s,
    }


class _Subscriber:
    """An MQTT 5 client: each message's `key` and `time` property say which reading it is and when the NIC had it."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.times = Histogram()
        self.subscribed = asyncio.Event()
        self._stream = PacketStream(Side.CLIENT, V5)

    def begin(self, writer: asyncio.StreamWriter, job: dict[str, Any]) -> None:
        self._writer = writer
        password = None if job["password"] is None else str(job["password"]).encode()
        writer.write(encode_mqtt(Connect(f"bench-{os.getpid()}", V5, username=job["username"], password=password), V5))
        writer.write(encode_mqtt(Subscribe(1, (TopicSubscription(f"{TENANT}/read/#", 1),)), V5))

    async def listen(self, reader: asyncio.StreamReader) -> None:
        answers = 0
        while octets := await reader.read(1 << 18):
            now = time.time()
            self._stream.feed(octets)
            acknowledgements = []
            for packet in self._stream.packets():
                if isinstance(packet, Publish):
                    self._take(packet, now)
                    if packet.packet_id:
                        acknowledgements.append(encode_mqtt(PubAck(packet.packet_id), V5))
                else:
                    answers += 1
                    if answers == 2:
                        self.subscribed.set()
            self._writer.write(b"".join(acknowledgements))

    def _take(self, packet: Publish, now: float) -> None:
        properties = dict(packet.properties.user_properties)
        self.keys.add(properties["key"])
        self.times.add(max(0.0, now - float(properties["time"])))


async def contexts(job: dict[str, Any]) -> dict[str, object]:
    """How many NICs fit when each has an aiocoap context, until time or the system says stop."""
    from aiocoap import Context
    from aiocoap.resource import Resource, Site

    create: Callable[..., Any] = Context.create_server_context
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before, began = resources_now(), time.perf_counter()
    made: list[Any] = []
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]  # for looking at ourselves when all others are taken
    why = f"{job['seconds']} s were over"
    while time.perf_counter() - began < job["seconds"]:
        site = Site()
        site.add_resource(["temp"], Resource())
        number = len(made)
        address = f"::ffff:127.96.{number >> 8 & 255}.{number & 255}"
        try:
            made.append(await create(site, bind=(address, 5683), transports=["udp6"]))
        except OSError as error:
            why = f"the system said: {error.strerror} (limit of descriptors {hard})"
            break
    seconds = time.perf_counter() - began
    for descriptor in spare:
        os.close(descriptor)
    after = resources_now()
    kb = (after.resident_octets - before.resident_octets) / 1024 / max(1, len(made))
    return {"count": len(made), "seconds": seconds, "kb": kb, "why": why, "kb_how": f"of {len(made)} contexts"}


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


JOBS: Final = {"start": start, "once": once, "traffic": traffic, "contexts": contexts}

if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    outcome = asyncio.run(JOBS[chosen["what"]](chosen))
    sys.stdout.write(json.dumps(outcome))
    sys.stdout.flush()
    os._exit(0)  # thousands of aiocoap contexts take minutes to leave in order
