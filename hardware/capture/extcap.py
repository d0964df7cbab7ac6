"""The extcap program: Wireshark asks it for interfaces, link types and options, and has it capture into a FIFO.

Does: answer in the sentences of extcap(4), and run `capture.command.record_port`. Does not: decide what a capture is.
One interface stands for any PORT, and each serial port of this machine has its own.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from hardware.capture.command import record_port
from hardware.ports import list_ports
from meshwire import __version__
from meshwire.capture.pcapng import LinkType
from meshwire.capture.record import Side
from meshwire.errors import ExitCode, MeshwireError

__all__ = ["main"]

_ANY_PORT: Final = "meshwire"
_PREFIX: Final = "meshwire:"
_RATES: Final = (9600, 19200, 38400, 57600, 115200)
_DEFAULT_RATE: Final = 38400


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what Wireshark asks for; returns the exit code."""
    asked = _parser().parse_args(arguments)
    if asked.extcap_interfaces:
        return _answer(_interfaces())
    if not asked.extcap_interface.startswith(_ANY_PORT):
        return _complain(f"no interface {asked.extcap_interface!r}", ExitCode.USAGE)
    if asked.extcap_dlts:
        return _answer([_sentence("dlt", number=int(LinkType.EXPORTED_PDU), name="EXPORTED_PDU", display="CoAP, HDLC")])
    if asked.extcap_config:
        return _answer(_config(asked.extcap_interface))
    if asked.capture and asked.fifo:
        return _capture(asked)
    return _complain("neither --extcap-… nor --capture with --fifo", ExitCode.USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="meshwire-extcap", allow_abbrev=False)
    for flag in ("--extcap-interfaces", "--extcap-dlts", "--extcap-config", "--capture"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--extcap-interface", default="")
    parser.add_argument("--extcap-version", nargs="?", default="")
    parser.add_argument("--extcap-capture-filter", default="")
    parser.add_argument("--fifo", type=Path)
    parser.add_argument("--port", default="")
    parser.add_argument("--peer", default="")
    parser.add_argument("--port-is", type=Side, default=Side.BOARD)
    parser.add_argument("--baud", type=int, default=_DEFAULT_RATE)
    return parser


def _sentence(word: str, **values: object) -> str:
    return f"{word} " + "".join(f"{{{name}={_escaped(str(value))}}}" for name, value in values.items())


def _escaped(text: str) -> str:
    """A closing brace would end the value."""
    return text.replace("{", "(").replace("}", ")")


def _interfaces() -> list[str]:
    sentences = [
        _sentence("extcap", version=__version__, display="meshwire: HDLC and CoAP on a serial line"),
        _sentence("interface", value=_ANY_PORT, display="meshwire: any PORT"),
    ]
    return sentences + [
        _sentence("interface", value=_PREFIX + port.stable_name, display=f"meshwire: {port.description} {port.device}")
        for port in list_ports()
    ]


def _config(interface: str) -> list[str]:
    sentences = []
    if interface == _ANY_PORT:
        sentences.append(
            _sentence(
                "arg",
                number=0,
                call="--port",
                display="PORT",
                type="string",
                required="true",
                tooltip="device path, socket://HOST:PORT, rfc2217://HOST:PORT, sim://PROFILE?sensor=temp",
            )
        )
    sentences += [
        _sentence("arg", number=1, call="--baud", display="Bits a second", type="selector", default=_DEFAULT_RATE),
        *_choices(1, _RATES, _DEFAULT_RATE),
        _sentence("arg", number=2, call="--port-is", display="At PORT is the", type="selector", default=Side.BOARD),
        *_choices(2, tuple(Side), Side.BOARD),
        _sentence(
            "arg",
            number=3,
            call="--peer",
            display="The other side connects to",
            type="string",
            tooltip="stand between: pty:/tmp/board, for example; empty to listen only",
        ),
    ]
    return sentences


def _choices(argument: int, choices: Sequence[object], default: object) -> list[str]:
    return [
        _sentence("value", arg=argument, value=each, display=each, default=str(each == default).lower())
        for each in choices
    ]


def _capture(asked: argparse.Namespace) -> int:
    port = asked.port if asked.extcap_interface == _ANY_PORT else asked.extcap_interface.removeprefix(_PREFIX)
    if not port:
        return _complain("no PORT given: open the options of this interface", ExitCode.USAGE)
    try:
        with suppress(BrokenPipeError):  # the capture was stopped in Wireshark
            # Nothing is told: Wireshark takes every word on standard error for a failure.
            asyncio.run(
                record_port(
                    port,
                    asked.fifo,
                    [],
                    peer=asked.peer or None,
                    port_is=asked.port_is,
                    baud=asked.baud,
                    tell=lambda line: None,
                )
            )
    except MeshwireError as error:
        return _complain(str(error), error.exit_code)
    except ExceptionGroup as group:
        return _complain(str(group.exceptions[0]), ExitCode.FAILURE)
    return ExitCode.OK


def _answer(sentences: Sequence[str]) -> int:
    sys.stdout.write("".join(f"{sentence}\n" for sentence in sentences))
    return ExitCode.OK


def _complain(what: str, code: ExitCode) -> int:
    """Wireshark shows what extcap programs write to standard error."""
    sys.stderr.write(f"meshwire-extcap: {what}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
