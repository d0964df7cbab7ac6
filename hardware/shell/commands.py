"""The shell's language: one line to one Command. Pure; nothing is sent here, so a script can be read before it runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hardware.shell.errors import CommandError
from meshwire.coap import codes, options
from meshwire.coap.message import CON, Message

__all__ = [
    "HELP",
    "Cancel",
    "Command",
    "Hex",
    "Observe",
    "Raw",
    "Request",
    "Simple",
    "SimpleCommand",
    "TimeGet",
    "TimeSet",
    "Wait",
    "Word",
    "parse_line",
    "request_message",
    "script_commands",
]

_LONGEST_WAIT_S: Final = 3600.0
_LATEST_TIME_S: Final = 0xFFFF_FFFF


class Word(StrEnum):
    """Commands without arguments."""

    SNRM = "snrm"
    DISC = "disc"
    POLL = "poll"
    STATS = "stats"
    HELP = "help"
    QUIT = "quit"


_WORDS: Final = {word.value: word for word in Word}


@dataclass(frozen=True, slots=True)
class Request:
    """One request: method code, target as `PATH[?QUERY]`, payload."""

    method: int
    target: str
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Observe:
    """Register for notifications of a target."""

    target: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """End an observation; of all targets when none is named."""

    target: str | None


@dataclass(frozen=True, slots=True)
class TimeGet:
    """Read the board's clock."""


@dataclass(frozen=True, slots=True)
class TimeSet:
    """Set the board's clock: Unix seconds, None for now."""

    unix_s: int | None


@dataclass(frozen=True, slots=True)
class Raw:
    """Octets as given: a frame with its flags, or a CoAP message."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Hex:
    """Show the octets of each frame, or not."""

    shown: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Let the link run for some seconds, or until so many notifications have come."""

    seconds: float
    notifications: int | None = None


@dataclass(frozen=True, slots=True)
class Simple:
    """A command that is its word."""

    word: Word


SimpleCommand = Simple | Hex
Command = Request | Observe | Cancel | TimeGet | TimeSet | Raw | Wait | SimpleCommand

HELP: Final = """\
get PATH[?QUERY]             read a resource: get /arduino/temp?sens
put PATH[?QUERY] [PAYLOAD]   write; PAYLOAD is text, or octets as 0x0608…; post and delete likewise
observe PATH[?QUERY]         notifications from now on; cancel [PATH] ends them
time [get | set [SECONDS]]   the board's clock; without SECONDS it is set to this machine's
raw HEX                      a frame with its flags (7e …), or a CoAP message
snrm, disc, poll             the link's own questions
wait SECONDS [COUNT]         let it run, or until COUNT notifications have come
stats                        counters: frames, check errors, retries, resets, round trip, octets
hex on | off                 the octets of each frame
quit                         (also Ctrl-D)"""


def script_commands(text: str) -> tuple[tuple[Command, bool], ...]:
    """A whole script: each command, and whether its failure is to be passed over (`-` in front, as in sftp and make).

    Raises:
        CommandError: naming the line.
    """
    commands = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        forgiving = stripped.startswith("-")
        try:
            command = parse_line(stripped.removeprefix("-"))
        except CommandError as error:
            raise CommandError(
                f"line {number} of the script: {error.what}", evidence=error.evidence, fix=error.fix
            ) from None
        if command is not None:
            commands.append((command, forgiving))
    return tuple(commands)


def parse_line(line: str) -> Command | None:
    """One line; None for an empty one or a comment (`#`).

    Raises:
        CommandError: no such command, or its arguments are wrong.
    """
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise _wrong(line, str(error)) from None
    if not words:
        return None
    name, arguments = words[0].lower(), words[1:]
    if name in _WORDS:
        return Simple(_WORDS[name])
    parser = _PARSERS.get(name)
    if parser is None:
        raise CommandError("no such command", evidence=name, fix=f"one of: {', '.join((*_PARSERS, *_WORDS))}")
    try:
        return parser(name, arguments)
    except (ValueError, IndexError) as error:
        raise _wrong(line, str(error)) from None


def _wrong(line: str, evidence: str) -> CommandError:
    return CommandError(f"can't read `{line.strip()}`", evidence=evidence, fix="see `help`")


def request_message(request: Request) -> Message:
    """The CoAP request of a command, without message ID and token, empty segments left out."""
    path, _, query = request.target.partition("?")
    uri = [(options.URI_PATH, segment.encode()) for segment in path.split("/") if segment]
    uri += [(options.URI_QUERY, argument.encode()) for argument in query.split("&") if argument]
    return Message(CON, request.method, 0, b"", tuple(uri), request.payload)


def _payload(words: list[str]) -> bytes:
    text = " ".join(words)
    return bytes.fromhex(text[2:]) if text[:2].lower() == "0x" else text.encode()


def _request(name: str, arguments: list[str]) -> Command:
    method = {"get": codes.GET, "put": codes.PUT, "post": codes.POST, "delete": codes.DELETE}[name]
    if not arguments:
        raise ValueError("a path is missing")
    if method in (codes.GET, codes.DELETE) and len(arguments) > 1:
        raise ValueError(f"{name} takes no payload")
    return Request(method, arguments[0], _payload(arguments[1:]))


def _observe(name: str, arguments: list[str]) -> Command:
    if len(arguments) != 1:
        raise ValueError("observe takes one path")
    return Observe(arguments[0])


def _cancel(name: str, arguments: list[str]) -> Command:
    return Cancel(arguments[0] if arguments else None)


def _time(name: str, arguments: list[str]) -> Command:
    if not arguments or arguments == ["get"]:
        return TimeGet()
    if arguments[0] != "set" or len(arguments) > 2:
        raise ValueError("time get, or time set [SECONDS]")
    if arguments[1:] in ([], ["now"]):
        return TimeSet(None)
    seconds = int(arguments[1])
    if not 0 <= seconds <= _LATEST_TIME_S:
        raise ValueError("seconds since 1970, 32 bits")
    return TimeSet(seconds)


def _raw(name: str, arguments: list[str]) -> Command:
    octets = bytes.fromhex("".join(arguments))
    if not octets:
        raise ValueError("octets in hex are missing")
    return Raw(octets)


def _hex(name: str, arguments: list[str]) -> Command:
    if arguments not in (["on"], ["off"]):
        raise ValueError("hex on, or hex off")
    return Hex(arguments == ["on"])


def _wait(name: str, arguments: list[str]) -> Command:
    seconds = float(arguments[0])
    if not 0 <= seconds <= _LONGEST_WAIT_S or len(arguments) > 2:
        raise ValueError(f"0 to {_LONGEST_WAIT_S:g} seconds")
    return Wait(seconds, int(arguments[1]) if arguments[1:] else None)


_PARSERS: Final[Mapping[str, Callable[[str, list[str]], Command]]] = {
    "get": _request,
    "put": _request,
    "post": _request,
    "delete": _request,
    "observe": _observe,
    "cancel": _cancel,
    "time": _time,
    "raw": _raw,
    "hex": _hex,
    "wait": _wait,
    "exit": lambda name, arguments: Simple(Word.QUIT),
}
