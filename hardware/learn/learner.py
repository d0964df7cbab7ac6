"""Walks a board's resources over a Shell's link, and makes a LearnedBoard of what it says.

Only reads: GET, Observe and its end, besides PUT `/sys/time` with the right time, without which a Milli board's timers
and readings say little. What is known to crash boards is not asked (`hardware.shell.guard`).
"""

from __future__ import annotations

import asyncio
import re
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from hardware.shell.board import Answer
from hardware.shell.commands import Request, TimeSet, request_message
from hardware.shell.completion import link_targets
from hardware.shell.errors import DeviceAnsweredError, ShellError
from hardware.shell.guard import check_message
from hardware.shell.shell import Shell
from meshwire.coap import codes
from meshwire.coap.message import Message
from meshwire.coap.options import BLOCK2, CONTENT_FORMAT, MAX_AGE, OBSERVE, encode_uint
from meshwire.learned_board import LearnedBoard, LearnedResource, LearnedSensor

__all__ = ["Learner", "LearnSettings"]

MAX_PAYLOAD_OCTETS: Final = 65_536
ENOUGH_NOTIFICATIONS: Final = 5
"""Listening ends early when every observed sensor has sent so many."""
_EPOCH: Final = re.compile(rb"(?<![0-9])(1[0-9]{9}),")
_TIME_PATH: Final = "sys/time"
_MILLI_TYPES: Final = ("temp", "echo", "ncmth1", "lnic")
"""A Milli board does not say which sensors it has (dialect B.3): these are tried."""
_SENSOR_WORDS: Final = ("obs", 'if="sensor"')
_LINK: Final = re.compile(r"<([^<>]*)>([^<]*)")


@dataclass(frozen=True, slots=True)
class LearnSettings:
    """How much is asked.

    Args:
        sensors: further sensor paths that the board does not name.
        samples: readings of each sensor.
        pause_s: seconds between two of them: a board keeps a reading for a second.
        listen_s: how long notifications are waited for, at most.
    """

    sensors: tuple[str, ...] = ()
    samples: int = 3
    pause_s: float = 1.1
    listen_s: float = 30.0


@dataclass(slots=True)
class _Heard:
    """Notifications of one sensor."""

    registered_at: float = 0.0
    accepted: bool = False
    at_s: list[float] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)

    def intervals(self) -> list[float]:
        """By the times of reading in the records where they are there: polls make arrivals late."""
        epochs = [int(found[1]) for found in map(_EPOCH.search, self.payloads) if found]
        times: Sequence[float] = epochs if len(epochs) == len(self.payloads) else self.at_s
        return [after - before for before, after in pairwise(times)]


class Learner:
    """See the module.

    Args:
        shell: open; whose board is learned.
        settings: how much is asked.
        tell: takes a line about each step.
    """

    def __init__(self, shell: Shell, settings: LearnSettings, tell: Callable[[str], None]) -> None:
        self._shell = shell
        self._settings = settings
        self._tell = tell
        self._heard: dict[str, _Heard] = {}
        self._enough = asyncio.Event()
        shell.board.on_message = self._listen

    async def learn(self, source: str, turn_around_s: Callable[[], float]) -> LearnedBoard:
        """Ask, listen, and put it together.

        Args:
            source: where, for the file.
            turn_around_s: the shortest pause before an answer that was seen so far.

        Raises:
            BoardSilent: the board stopped answering.
        """
        root = await self._get("/")
        await self._set_time()
        links = await self._get("/.well-known/core")
        sensors, others = self._candidates(links)
        learned = [sensor for target in sensors if (sensor := await self._sensor(target)) is not None]
        resources = [_resource("", root), *[_resource(path, await self._get(f"/{path}")) for path in others]]
        learned = await self._observe(learned)
        base = self._base(root)
        return LearnedBoard(
            base=base,
            sensors=tuple(learned),
            resources=tuple(item for item in resources if item is not None),
            # A Milli board's pause is its 400 ms rule, which the base has by itself.
            turn_around_s=round(turn_around_s(), 3) if base == "standard" else 0.0,
            round_trip_s=round(self._shell.board.round_trips.mean_s, 3),
            source=source,
        )

    # ---- which resources

    def _candidates(self, links: Message | None) -> tuple[list[str], list[str]]:
        """Targets of sensors (`/path?query`) and paths of the rest, as far as the board names them."""
        text = "" if links is None else links.payload.decode(errors="replace")
        named = dict.fromkeys(path.strip("/") for path, _ in _LINK.findall(text))
        sensors = [f"/{path}?sens" for path in (item.strip("/") for item in self._settings.sensors)]
        for path, attributes in _LINK.findall(text):
            if any(word in attributes for word in _SENSOR_WORDS):
                sensors.append(f"/{path.strip('/')}?sens")
        if self._shell.board.per_exchange:
            folders = [target.rsplit("/", 1)[0] for target in link_targets(text) if target.endswith("/temp?sens")]
            sensors += [f"{folder}/{kind}?sens" for folder in folders for kind in _MILLI_TYPES]
            return list(dict.fromkeys(sensors)), []
        taken = {target.strip("/").partition("?")[0] for target in sensors}
        others = [path for path in named if path and path not in taken and path not in (_TIME_PATH, ".well-known/core")]
        return list(dict.fromkeys(sensors)), others

    def _base(self, root: Message | None) -> str:
        if not self._shell.board.per_exchange:
            return "standard"
        says = b"" if root is None else root.payload
        return "milli-1.4.5" if says.endswith(b"1.4.5") else "milli-1.4.8"

    # ---- asking

    async def _set_time(self) -> None:
        try:
            await self._shell.runner.run(TimeSet(None))
        except DeviceAnsweredError:
            self._tell("/sys/time: the board has no clock to set")

    async def _request(self, message: Message) -> Answer | None:
        """None where the request is held back."""
        if self._shell.board.per_exchange:
            try:
                check_message(message)
            except ShellError as error:
                self._tell(f"not asked: {error.evidence}")
                return None
        return await self._shell.board.request(message)

    async def _get(self, target: str) -> Message | None:
        """The whole representation, its blocks put together; None where there is none."""
        request = request_message(Request(codes.GET, target))
        first: Message | None = None
        payload = b""
        number = 0
        while True:
            asked = (
                request if number == 0 else request.with_options([(BLOCK2, encode_uint(number << 4 | _size(first)))])
            )
            answer = await self._request(asked)
            message = None if answer is None else answer.message
            if message is None or message.code != codes.CONTENT:
                self._tell(f"{target}: {'not asked' if message is None else codes.code_text(message.code)}")
                return None
            first = first or message
            payload += message.payload
            block = message.uint(BLOCK2)
            if block is None or not block & 8 or len(payload) > MAX_PAYLOAD_OCTETS:
                self._tell(f"{target}: {len(payload)} octets")
                return replace(first, payload=payload)
            number = (block >> 4) + 1

    async def _sensor(self, target: str) -> LearnedSensor | None:
        first = await self._get(target)
        if first is None:
            return None
        samples = [first.payload]
        for _ in range(self._settings.samples - 1):
            await asyncio.sleep(self._settings.pause_s)
            if (more := await self._get(target)) is not None:
                samples.append(more.payload)
        path = target.strip("/").partition("?")[0]
        configuration = await self._get(f"/{path}?cfg")
        return LearnedSensor(
            path=path,
            samples=tuple(samples),
            query="sens",
            content_format=first.uint(CONTENT_FORMAT),
            max_age_s=first.uint(MAX_AGE),
            configuration=b"" if configuration is None else configuration.payload,
        )

    # ---- listening

    def _listen(self, message: Message, target: str | None) -> None:
        if target is not None and target in self._heard and codes.is_success(message.code):
            self._heard[target].at_s.append(self._now())
            self._heard[target].payloads.append(message.payload)
            if all(len(heard.at_s) >= ENOUGH_NOTIFICATIONS for heard in self._heard.values() if heard.accepted):
                self._enough.set()
            self._tell(f"notification {message.uint(OBSERVE)} {target}: {len(message.payload)} octets")

    async def _observe(self, sensors: Sequence[LearnedSensor]) -> list[LearnedSensor]:
        """Register for all of them, listen for a while, take the registrations back."""
        targets = {f"/{sensor.path}?{sensor.query}": sensor for sensor in sensors}
        for target in targets:
            heard = self._heard[target] = _Heard(self._now())
            answer = await self._shell.board.observe(request_message(Request(codes.GET, target)), target)
            heard.accepted = target in self._shell.board.observations.values()
            if not heard.accepted:
                self._tell(f"{target}: not observable ({codes.code_text(answer.message.code)})")
        observed = [heard for heard in self._heard.values() if heard.accepted]
        if observed:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.listen_s):
                    await self._enough.wait()
        for target in list(dict.fromkeys(self._shell.board.observations.values())):
            await self._shell.board.cancel(request_message(Request(codes.GET, target)), target)
        return [self._timed(sensor, self._heard[target]) for target, sensor in targets.items()]

    def _timed(self, sensor: LearnedSensor, heard: _Heard) -> LearnedSensor:
        intervals = heard.intervals()
        if not intervals and heard.at_s:
            intervals = [heard.at_s[0] - heard.registered_at]  # a timer that starts with the registration
        if heard.accepted and not intervals:
            self._tell(f"/{sensor.path}: no notification in {self._settings.listen_s:g} s; played as push only")
        return replace(
            sensor,
            observable=heard.accepted,
            samples=(*sensor.samples, *heard.payloads),
            period_s=round(statistics.median(intervals), 2) if intervals else 0.0,
            jitter_s=round(max(intervals) - min(intervals), 2) if intervals else 0.0,
        )

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _size(message: Message | None) -> int:
    """SZX of the first block: the next ones are asked for in the same size."""
    return 0 if message is None else (message.uint(BLOCK2) or 0) & 7


def _resource(path: str, message: Message | None) -> LearnedResource | None:
    if message is None:
        return None
    return LearnedResource(path, message.payload, message.uint(CONTENT_FORMAT))
