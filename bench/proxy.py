"""`meshwire bench proxy`: confirmable GETs of eight clients through a forward proxy to one light NIC, 64 under way.

The proxy has one core; clients and NIC share the other. Every GET goes to the NIC and back, none is answered from a
cache. Ours checks the session, whose device it is and where it is, and takes Proxy-Uri with a host name; the others are
open to everybody and take Proxy-Scheme with an IP address (aiocoap-proxy refuses Proxy-Uri). The NIC acknowledges
everything at once, so ours is told to have up to 64 requests under way to it.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from bench.bridge_load import TENANT
from bench.brokers import pinned
from bench.child import serving
from bench.proxy_load import Job, Outcome
from bench.result import Comparison, Figure, Result
from meshwire.coap import CON, Message, codes, encode
from meshwire.identity import Role, TenantId
from meshwire.site import Site

__all__ = ["measure"]

BENCH: Final = "proxy"
RUNS: Final = 5
SECONDS: Final = 2.0
QUICK_SECONDS: Final = 1.0
START_S: Final = 30.0
ATTEMPTS: Final = 4
"""A proxy that does not serve after `START_S`, or has ended, is started anew on another port."""
UNDER_WAY: Final = 64
"""Requests that the light NIC may have at once from ours; the default is what a NIC lets wait for its board."""
AIOCOAP_BAR: Final = 4.0
"""The ratio to aiocoap-proxy that has to be reached."""


@dataclass(slots=True)
class _Proxy:
    """A forward proxy that serves, and what it has reached."""

    name: str
    port: int
    process: int
    token: str = ""
    outcomes: list[Outcome] = field(default_factory=list)

    def load(self, seconds: float) -> None:
        """One run of the load, in its own process on the last core."""
        job = Job(self.port, self.process, seconds, seconds / 4, self.token)
        command = [sys.executable, "-m", "bench.proxy_load", json.dumps(asdict(job))]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=120, preexec_fn=pinned(-1))
        if done.returncode:
            raise RuntimeError(f"{self.name}: the load failed")
        outcome = Outcome(**json.loads(done.stdout))
        if outcome.wrong or not outcome.answered:
            raise RuntimeError(f"{self.name}: {outcome.wrong} wrong answers, {outcome.answered} right ones")
        self.outcomes.append(outcome)

    @property
    def rates(self) -> list[float]:
        return [outcome.answered / outcome.seconds for outcome in self.outcomes]

    @property
    def cost_us(self) -> float:
        """Processor time of the proxy for a GET, microseconds."""
        return median(1e6 * outcome.processor_s / outcome.answered for outcome in self.outcomes)


def measure(quick: bool) -> Iterator[Result]:
    """Ours beside each peer, in turn in every run; five runs, quick: one short one."""
    runs, seconds = (1, QUICK_SECONDS) if quick else (RUNS, SECONDS)
    with ExitStack() as stack:
        ours = stack.enter_context(_ours())
        peers = {"aiocoap": stack.enter_context(_aiocoap())}
        if (server := shutil.which("coap-server-notls") or shutil.which("coap-server")) is None:
            print("proxy libcoap: left out, for the comparison: apt-get install libcoap3-bin", file=sys.stderr)
        else:
            peers["libcoap"] = stack.enter_context(_libcoap(server))
        for _ in range(runs):
            for proxy in (ours, *peers.values()):
                proxy.load(seconds)
        for case, peer in peers.items():
            note = f"ours {ours.cost_us:.0f} µs of processor a GET, theirs {peer.cost_us:.0f} µs"
            bar = AIOCOAP_BAR if case == "aiocoap" else None
            yield Comparison(BENCH, case, ours.rates, peer.name, peer.rates, "GETs/s", note=note, ratio_bar=bar)
        yield Figure(BENCH, "ours", ours.rates, "GETs/s", note=f"{ours.cost_us:.0f} µs of processor a GET")


@contextmanager
def _ours() -> Iterator[_Proxy]:
    with tempfile.TemporaryDirectory() as folder:
        token = Site(Path(folder)).signing_keys().issue(TenantId(TENANT), [Role.COMMAND_CLIENT], now=time.time())
        settings = {"listen": ["127.0.0.1"], "port": 0, "http": "", "bridge": {"enabled": False}}
        settings["proxy"] = {"max_under_way": UNDER_WAY}
        command = [sys.executable, "-m", "bench.bridge_load_gateway", json.dumps(settings), folder]
        with serving("the gateway", command, quiet=True) as child:
            yield _Proxy("ours", child.ports[0], child.pid, token)


@contextmanager
def _aiocoap() -> Iterator[_Proxy]:
    program = str(Path(sys.executable).with_name("aiocoap-proxy"))
    with _serving("aiocoap-proxy", lambda port: [program, "--forward", "--bind", f"127.0.0.1:{port}"]) as proxy:
        yield proxy


@contextmanager
def _libcoap(server: str) -> Iterator[_Proxy]:
    # The names after the comma are the proxy's own; without an address in front the target is taken from the request.
    own = ["-P", ",proxy.invalid"]
    with _serving("libcoap", lambda port: [server, "-A", "127.0.0.1", "-p", str(port), "-v", "2", *own]) as proxy:
        yield proxy


@contextmanager
def _serving(name: str, command: Callable[[int], list[str]]) -> Iterator[_Proxy]:
    nothing = subprocess.DEVNULL
    for _ in range(ATTEMPTS):
        port = _free_port()
        with subprocess.Popen(
            command(port), stdin=nothing, stdout=nothing, stderr=nothing, preexec_fn=pinned(0)
        ) as process:
            try:
                if _answers(process, port):
                    yield _Proxy(name, port, process.pid)
                    return
            finally:
                _stop(process)
    raise RuntimeError(f"{name} does not serve: {ATTEMPTS} attempts, {START_S:.0f} s each")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether a CoAP ping is answered by a Reset before the process ends or `START_S` is over."""
    ends = time.monotonic() + START_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.1)
        probe.connect(("127.0.0.1", port))
        while time.monotonic() < ends and process.poll() is None:
            try:
                probe.send(encode(Message(CON, codes.EMPTY, 1)))
                probe.recv(64)
                return True
            except ConnectionRefusedError:
                time.sleep(0.05)
            except TimeoutError:
                continue
    return False


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
