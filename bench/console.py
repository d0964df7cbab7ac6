"""`meshwire bench console`: live pages of the web console in Chromium while 1,000 NICs send 500 readings a second.

How soon a page shows something, whether the browser's memory stays flat, and what open pages cost the gateway. The
gateway has the first core; load, broker and browser share the last one, so that the pages' own work in the browser is
not taken for the gateway's. `MESHWIRE_BENCH_CONSOLE=SECONDS,PAIRS` sets how long memory is watched and how many pairs
of runs with and without pages there are (default 600,7; quick: 12,2).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench import bridge_peers as peers
from bench.bridge_load import PROGRAM, Job, Outcome, device_id
from bench.brokers import MISSING_PEER, Contender, mosquitto, mosquitto_path, pinned
from bench.brokers import ours as our_broker
from bench.child import serving
from bench.chromium import chromium
from bench.compiled import Unobtainable, compiled
from bench.result import Comparison, Figure, Result

__all__ = ["measure"]

BENCH: Final = "console"
NICS: Final = 1_000
RATE: Final = 500.0
PAINTS: Final = 3
PAINT_BAR_MS: Final = 1_000.0
GROWTH_BAR: Final = 0.05
"""An alarm that comes adds a few per cent; a leak in each of 600 events would add more."""
THROUGHPUT_BAR: Final = 0.95
SLICE_S: Final = 5.0
CALM_S: Final = 6.0
"""Between opening pages and measuring what they cost while they are open: one looks for serial ports at first."""
SAMPLES: Final = 24
WARM_UP: Final = 4
"""Of the samples, so many in front are not counted."""
PATIENCE_MS: Final = 180_000.0
"""A browser that takes only what others leave may need long on a busy machine."""
NAME: Final = "bench"
PLACES: Final = {
    "overview": "",
    "network": "network",
    "nic": f"network/{device_id(1)}",
    "first-reading": "start",
    "connections": "messaging/connections",
    "topics": "messaging/topics",
    "addresses": "messaging/addresses",
}
"""Page and path below `/console/`."""


@dataclass(frozen=True, slots=True)
class _Site:
    bridge: peers.Bridge
    url: str
    password: str


def measure(quick: bool) -> Iterator[Result]:
    """All cases; quick: 12 s of memory, two pairs of half a second, one paint a page."""
    chosen = os.environ.get("MESHWIRE_BENCH_CONSOLE", "12,2" if quick else "600,7").split(",")
    if mosquitto_path() is None:
        print(MISSING_PEER, file=sys.stderr)
        return
    try:
        compiled(PROGRAM)
        with our_broker('durability = "memory"') as broker:
            yield from _with(broker, "embedded", partial(_looks, float(chosen[0]), 1 if quick else PAINTS), False)
        with mosquitto() as broker:
            job = Job(0.5 if quick else 3.0, 0.5)
            yield from _with(broker, "mosquitto", partial(_throughput, job, int(chosen[1])), True)
    except Unobtainable as error:
        print(f"{BENCH}: left out, {error}", file=sys.stderr)


def _with(
    broker: Contender,
    engine: str,
    act: Callable[[Any, _Site], Coroutine[None, None, list[Result]]],
    is_meek: bool,
) -> list[Result]:
    """Do something with a signed-in browser at a gateway of its own."""

    async def signed_in(site: _Site) -> list[Result]:
        async with chromium(is_meek=is_meek) as browser:
            context = await browser.new_context()
            context.set_default_timeout(PATIENCE_MS)
            await context.add_init_script(_COUNT_UPDATES)
            await _sign_in(context, site)
            results = await act(context, site)
            await context.close()
            return results

    peers.to_last_core(broker)
    with _gateway(broker, engine) as site, _on_last_core():
        return asyncio.run(signed_in(site))


async def _looks(seconds: float, paints: int, context: Any, site: _Site) -> list[Result]:
    """What pages are like while readings come; our own broker tells everything that pages can show."""
    async with _readings(site.bridge):
        return [*await _paints(context, site, paints), *await _memory(context, site, seconds)]


async def _sign_in(context: Any, site: _Site) -> None:
    page = await context.new_page()
    await page.goto(site.url)
    await page.get_by_label("Name").fill(NAME)
    await page.get_by_label("Password").fill(site.password)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(site.url)
    await page.close()


@asynccontextmanager
async def _readings(bridge: peers.Bridge) -> AsyncIterator[None]:
    """500 readings a second while the block runs."""

    is_enough = asyncio.Event()

    async def send() -> None:
        for epoch in itertools.count(1_001):
            await asyncio.to_thread(bridge.load, Job(SLICE_S, 0.0, epoch, NICS, rate=RATE))
            if is_enough.is_set():
                return

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        yield
        is_enough.set()


async def _paints(context: Any, site: _Site, times: int) -> list[Result]:
    """From the request to the first text that is seen; each page in turn."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in PLACES}
    for _ in range(times):
        for name, place in PLACES.items():
            page = await context.new_page()
            await page.goto(site.url + place)
            paint_ms, answer_ms = await page.evaluate(_FIRST_PAINT)
            seen[name].append((paint_ms, answer_ms))
            await page.close()
    results: list[Result] = []
    for name, times_ms in seen.items():
        note = f"first contentful paint; the gateway answers after {median(ms for _, ms in times_ms):.0f} ms of these"
        paints = [ms for ms, _ in times_ms]
        results.append(Figure(BENCH, f"paint-{name}", paints, "ms", PAINT_BAR_MS, note, more_is_better=False))
    return results


_FIRST_PAINT: Final = """() => new Promise((done) => new PerformanceObserver((list) => {
    const answer = performance.getEntriesByType("navigation")[0].responseStart;
    for (const entry of list.getEntriesByName("first-contentful-paint")) done([entry.startTime, answer]);
}).observe({type: "paint", buffered: true}))"""


async def _memory(context: Any, site: _Site, seconds: float) -> list[Result]:
    """What each open page holds after a garbage collection, again and again; the last third beside the first."""
    gauges = {name: await _Gauge.open(context, site.url + place) for name, place in PLACES.items()}
    kept: dict[str, list[tuple[float, float]]] = {name: [] for name in gauges}
    for _ in range(SAMPLES):
        await asyncio.sleep(seconds / SAMPLES)
        for name, gauge in gauges.items():
            kept[name].append(await gauge.read())
    results: list[Result] = []
    for name, samples in kept.items():
        (heap, heap_growth), (nodes, node_growth) = (_growth([each[n] for each in samples]) for n in (0, 1))
        note = f"after garbage collection, over {seconds:g} s; in the end {heap / 1e6:.2f} MB, {nodes:.0f} DOM nodes"
        worst = max(heap_growth, node_growth)
        results.append(Figure(BENCH, f"growth-{name}", [worst], "fraction", GROWTH_BAR, note, more_is_better=False))
        await gauges[name].page.close()
    return results


def _growth(values: list[float]) -> tuple[float, float]:
    """The end, and by what share it is above the beginning; medians of thirds, behind the warm-up."""
    values = values[WARM_UP:]
    third = max(1, len(values) // 3)
    first, last = median(values[:third]), median(values[-third:])
    return last, last / first - 1


@dataclass(frozen=True, slots=True)
class _Gauge:
    """An open page and what it holds."""

    page: Any
    session: Any

    @classmethod
    async def open(cls, context: Any, url: str) -> _Gauge:
        page = await _opened(context, url)
        session = await context.new_cdp_session(page)
        await session.send("Performance.enable")
        return cls(page, session)

    async def read(self) -> tuple[float, float]:
        """Octets of the JavaScript heap that are in use, and DOM nodes."""
        await self.session.send("HeapProfiler.collectGarbage")
        answer = await self.session.send("Performance.getMetrics")
        metrics = {each["name"]: each["value"] for each in answer["metrics"]}
        return metrics["JSHeapUsedSize"], metrics["Nodes"]


async def _throughput(job: Job, pairs: int, context: Any, site: _Site) -> list[Result]:
    """Full load of a quarter of the NICs with all pages open and with none, in turn; who is first changes."""
    outcomes: dict[bool, list[Outcome]] = {True: [], False: []}
    updates: list[float] = []
    for number in range(2 * pairs):
        is_open = number % 4 in (1, 2)
        pages = [await _opened(context, site.url + place) for place in PLACES.values()] if is_open else []
        await asyncio.sleep(CALM_S)
        before, began_s = await _updates(pages), time.monotonic()
        outcomes[is_open].append(await asyncio.to_thread(site.bridge.load, replace(job, epoch=number + 1)))
        if is_open:
            updates.append((await _updates(pages) - before) / (time.monotonic() - began_s))
        for page in pages:
            await page.close()
        await asyncio.to_thread(site.bridge.settle)
    note = f"{len(PLACES)} live pages, {median(updates):.1f} updates a second; broker and load take " + " and ".join(
        f"{median((each.broker_s + each.load_s) / each.seconds for each in outcomes[is_open]):.0%} {words}"
        for is_open, words in ((True, "of the last core beside them"), (False, "alone"))
    )
    rates, costs = ({is_open: list(map(of, each)) for is_open, each in outcomes.items()} for of in (_rate, _cost_us))
    bar, cost_note = THROUGHPUT_BAR, "the gateway's processor time"
    return [
        Comparison(
            BENCH, "throughput", rates[True], "no page", rates[False], "messages/s", note=note, ratio_bar=bar
        ),
        Comparison(
            BENCH, "cost", costs[True], "no page", costs[False], "µs/message",
            more_is_better=False, note=cost_note, ratio_bar=bar,
        ),
    ]  # fmt: skip


def _rate(outcome: Outcome) -> float:
    return outcome.delivered / outcome.seconds


def _cost_us(outcome: Outcome) -> float:
    return 1e6 * outcome.bridge_s / max(1, outcome.delivered)


_COUNT_UPDATES: Final = """(() => {
    window.updates = 0;
    const [Source, get] = [EventSource, fetch], count = () => (window.updates += 1);
    window.EventSource = class extends Source {
        constructor(...given) { super(...given); this.addEventListener("message", count); }
    };
    window.fetch = async (...given) => { const answer = await get(...given); count(); return answer; };
})()"""


async def _updates(pages: Sequence[Any]) -> int:
    """How often pages have been told something by now."""
    return sum([await page.evaluate("window.updates") for page in pages])


async def _opened(context: Any, url: str) -> Any:
    page = await context.new_page()
    await page.goto(url)
    if await page.evaluate("document.hidden"):
        raise RuntimeError("the browser hides a page, which then is not live")
    return page


@contextmanager
def _on_last_core() -> Iterator[None]:
    """What is started in the block runs where load and broker are."""
    before, pin = os.sched_getaffinity(0), pinned(-1)
    if pin is not None:
        pin()
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _gateway(broker: Contender, engine: str) -> Iterator[_Site]:
    password = secrets.token_urlsafe(12)
    with tempfile.TemporaryDirectory() as folder:
        broker_password = Path(folder, "password")
        broker_password.write_text(broker.password or "none")
        bridge = {"port": broker.port, "window": 64, "username": broker.username or "bench"}
        bridge |= {"password_file": str(broker_password)}
        settings = {"listen": ["127.0.0.1"], "port": 0, "http": "127.0.0.1:0", "bridge": bridge}
        settings |= {"operations": {"engine": engine}}
        command = [sys.executable, "-m", "bench.console_gateway", json.dumps(settings), folder, str(NICS)]
        with serving("the gateway", [*command, NAME, password]) as child:
            time.sleep(0.2)
            coap, http = child.ports
            served = peers.Bridge("ours", coap, child.pid, broker)
            yield _Site(served, f"http://127.0.0.1:{http}/console/", password)
