"""The reference secondary in C: compiled, driven in made-up time as a library, and as a program on a pty."""

from __future__ import annotations

import asyncio
import ctypes
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from patience import PATIENCE_S

import hardware
from hardware.conform.bench import Bench, BenchSettings
from hardware.conform.case import Case, Result, Verdict
from hardware.conform.catalogue import choose
from hardware.conform.suite import run_cases
from meshwire.pipe import Inbox

FIRMWARE = Path(hardware.__path__[0]) / "firmware"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
RAM_LIMIT_OCTETS = 2048
EPOCH = 1_700_000_000.0

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)"),
]

OUTPUT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint8), ctypes.c_size_t)
READ = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
WAKE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Board(ctypes.Structure):
    _fields_ = (
        ("output", OUTPUT),
        ("read_temperature", READ),
        ("wake", WAKE),
        ("context", ctypes.c_void_p),
        ("period_ms", ctypes.c_uint32),
    )


class FirmwarePipe:
    """The C core behind a pipe: what is written is fed octet by octet, at the loop's time."""

    def __init__(self, library: ctypes.CDLL, size: int) -> None:
        self.name = "firmware"
        self.on_attention: Callable[[], None] | None = None
        self.wakes = 0
        self._inbox = Inbox()
        self._library = library
        self._state = ctypes.create_string_buffer(size)
        self._board = _Board(OUTPUT(self._output), READ(lambda context: 2250), WAKE(self._wake), None, 2000)
        library.mw_init(self._state, ctypes.byref(self._board), self._now_ms())

    def _now_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000) & 0xFFFFFFFF

    def _output(self, context: int | None, octets: ctypes._Pointer[ctypes.c_uint8], count: int) -> None:
        self._inbox.put(bytes(octets[:count]))

    def _wake(self, context: int | None) -> None:
        self.wakes += 1

    async def read(self) -> bytes:
        return await self._inbox.get()

    def write(self, data: bytes) -> None:
        for octet in data:
            self._library.mw_feed(self._state, ctypes.c_uint8(octet), self._now_ms())

    async def drain(self) -> None:
        self._library.mw_poll(self._state, self._now_ms())

    async def aclose(self) -> None:
        self._inbox.hang_up()

    def pulse_attention(self) -> None:
        """The primary's side has no wake line."""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The core as a library and the host program, without a warning."""
    folder = tmp_path_factory.mktemp("firmware")
    core = [str(FIRMWARE / name) for name in ("hdlc.c", "coap.c")]
    subprocess.run(["cc", *STRICT, "-O1", "-shared", "-fPIC", "-o", folder / "core.so", *core], check=True, timeout=60)
    make = ["cc", *STRICT, "-Os", "-o", folder / "board", *core, str(FIRMWARE / "host_main.c")]
    subprocess.run(make, check=True, timeout=60)
    return folder


def size_of(build: Path) -> int:
    shown = subprocess.run([build / "board", "--size"], check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    return int(shown.stdout)


def conform(
    build: Path, cases: tuple[Case, ...], loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> list[Result]:
    async def run() -> list[Result]:
        pipe = FirmwarePipe(ctypes.CDLL(str(build / "core.so")), size_of(build))
        settings = BenchSettings(exchanges=1000, notification_wait_s=6.0)
        bench = Bench(pipe, settings, wall_clock=lambda: EPOCH + asyncio.get_running_loop().time())
        try:
            results = await run_cases(bench, cases)
        finally:
            await bench.aclose()
        assert pipe.wakes > 1
        return list(results)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(run())


def test_the_firmware_passes_every_case(build: Path, jumping_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    results = conform(build, choose(destructive=True), jumping_loop)
    assert [f"{r.case.id}: {r.outcome.seen}" for r in results if r.outcome.verdict is Verdict.FAIL] == []
    assert [r.case.id for r in results if r.outcome.verdict is Verdict.NOT_APPLICABLE] == ["COAP-OPT-007"]


def test_it_needs_less_than_two_kilobytes_of_memory(build: Path) -> None:
    assert size_of(build) < RAM_LIMIT_OCTETS


def test_the_core_keeps_nothing_beside_its_state_and_asks_nothing_of_a_system(build: Path) -> None:
    objects = []
    for name in ("hdlc", "coap"):
        target = build / f"{name}.o"
        subprocess.run(["cc", *STRICT, "-Os", "-c", "-o", target, FIRMWARE / f"{name}.c"], check=True, timeout=60)
        objects.append(str(target))
    if shutil.which("nm") is None:
        pytest.skip("no nm")
    listing = subprocess.run(["nm", *objects], check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    lines = listing.stdout.splitlines()
    symbols = [line.split()[-2:] for line in lines if len(line.split()) >= 2]
    assert [name for kind, name in symbols if kind in "bBC"] == []
    wanted = {name for kind, name in symbols if kind == "U" and not name.startswith("mw_")}
    assert wanted <= {"memcpy", "memmove", "memset", "memcmp", "memchr", "strlen", "strcmp", "__stack_chk_fail",
                      "_GLOBAL_OFFSET_TABLE_"}  # fmt: skip


@pytest.fixture
def program(build: Path) -> Iterator[str]:
    """The host program on a pty; the path of its other side."""
    with subprocess.Popen([build / "board", "--pty"], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield running.stdout.readline().strip()
        finally:
            running.kill()


def test_the_command_judges_the_program_on_a_pty(program: str, tmp_path: Path) -> None:
    code = "import sys; from hardware.conform.cli import conform_app; conform_app(sys.argv[1:])"
    names = ["HDLC-FRM-003", "HDLC-LNK-012", "COAP-MSG-004", "RES-006", "RES-010", "PAY-006"]
    options = [part for name in names for part in ("--case", name)]
    done = subprocess.run(
        [sys.executable, "-c", code, program, *options, "--junit", tmp_path / "report.xml"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 pass, 0 fail" in done.stdout
    assert (tmp_path / "report.xml").read_text().count("<testcase") == 6
