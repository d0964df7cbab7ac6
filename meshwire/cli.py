"""The `meshwire` command: a table from sub-command to the module that serves it, loaded when it is called.

This file decides names, summaries, global options and exit codes. What a sub-command does is in its module, which
offers a Typer application. Loading by name keeps `meshwire --help` quick and the components unknown to each other.
"""

from __future__ import annotations

import asyncio
import difflib
import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from meshwire import __version__
from meshwire.errors import ExitCode, MeshwireError
from meshwire.logs import LEVEL, configure_logging, tell, tells_messages

__all__ = ["COMMANDS", "Command", "main", "use_fast_loop"]


@dataclass(frozen=True, slots=True)
class Command:
    """One sub-command: `module:attribute` of its Typer application, and a line for the overview."""

    target: str
    summary: str
    log_level: int = logging.WARNING
    fast_loop: bool = False
    """Whether the command itself runs on uvloop, where there is one; verbs of other components do not."""
    verbs: Mapping[str, str] = field(default_factory=dict)
    """Verbs that another component serves: `module:attribute` of the application that has them."""


COMMANDS: Final[dict[str, Command]] = {
    "demo": Command("gateway.lab:app", "a whole site on this machine: boards, NICs, gateway, broker, readings"),
    "sensor": Command("sensor_sim.__main__:app", "a simulated sensor board on a serial port or a pty", logging.INFO),
    "nic": Command("nic_sim.__main__:app", "one NIC on one board", logging.INFO),
    "fleet": Command(
        "nic_sim.fleet.__main__:app", "thousands of light NICs with their boards in one process, for load"
    ),
    "gateway": Command("gateway.__main__:app", "the CoAP gateway and bridge to MQTT", logging.INFO, True),
    "broker": Command(
        "broker.__main__:app",
        "the tenant-segregated MQTT broker",
        logging.INFO,
        True,
        {"authority": "broker.authority.__main__:verb_app"},
    ),
    "ports": Command("hardware.cli:ports_app", "serial ports of this machine and who holds them"),
    "probe": Command("hardware.probe_cli:app", "find the board on a serial port, or say why there is none"),
    "link": Command("hardware.shell.cli:app", "a shell over HDLC to one board: get, put, observe, time, raw frames"),
    "learn": Command("hardware.learn.cli:learn_app", "learn a board, so that the simulator can play it"),
    "fault": Command(
        "hardware.fault_cli:fault_app", "bad lines (fault+PORT) of running processes: list and change them"
    ),
    "replace": Command("hardware.replace_cli:replace_app", "exchange the board of a NIC, or of a demo, that runs"),
    "capture": Command(
        "hardware.capture.command:capture_app", "record a serial line for Wireshark, or show it line by line"
    ),
    "replay": Command("hardware.replay.command:replay_app", "play a recorded session at a board or a NIC and compare"),
    "conform": Command(
        "hardware.conform.cli:conform_app", "judge a board's firmware: link, CoAP, observe, payload, timing"
    ),
    "coap": Command("gateway.tools.coap:app", "GET, PUT, POST, DELETE or observe a device through a gateway"),
    "command": Command("gateway.tools.command:app", "commands to devices, direct or stored until the device returns"),
    "mqtt": Command("gateway.tools.mqtt:app", "subscribe and publish (options as in mosquitto_sub and mosquitto_pub)"),
    "token": Command("gateway.tools.admin:token_app", "issue and show tokens"),
    "device": Command("gateway.tools.devices:device_app", "devices: provision, list, change, move, import, export"),
    "client": Command("gateway.tools.clients:client_app", "OAuth clients of a tenant"),
    "console-user": Command("gateway.tools.console_users:console_user_app", "people who sign in at the web console"),
    "alias": Command("gateway.tools.alias:alias_app", "MQTT connection aliases: further brokers, each with its rules"),
    "trigger": Command("gateway.tools.alias:trigger_app", "subscriptions bound to an alias, and what they do"),
    "package": Command("gateway.tools.alias:package_app", "aliases and triggers switched and moved together"),
    "truststore": Command("gateway.tools.alias:truststore_app", "authorities that sign brokers' certificates"),
    "keystore": Command("gateway.tools.alias:keystore_app", "client keys and certificates for mutual TLS"),
    "user": Command("broker.users:app", "password users of the broker"),
    "tenant": Command(
        "gateway.tools.tenants:tenant_app",
        "tenants; `tenant attack` tries to cross the border between them",
        verbs={"attack": "broker.attack.__main__:app"},
    ),
    "asyncapi": Command("gateway.tools.asyncapi:asyncapi_app", "the MQTT topics as an AsyncAPI 3 document"),
    "audit": Command("gateway.tools.audit:audit_app", "who changed what"),
    "account": Command("gateway.tools.messaging:account_app", "accounts of the messaging service: tree, assignment"),
    "instance": Command(
        "broker.adapters.__main__:app",
        "messaging instances (list, add, describe, set, remove); other MQTT brokers (show, check, generate, trial)",
        verbs=dict.fromkeys(("list", "add", "describe", "set", "remove"), "gateway.tools.messaging:instance_app"),
    ),
    "endpoint": Command("gateway.tools.messaging:endpoint_app", "addresses of the messaging service; publish, check"),
    "broker-authority": Command(
        "broker.authority.__main__:app", "the broker's policy, served to other MQTT brokers over HTTP", logging.INFO
    ),
    "address": Command("broker.addresses.command:app", "queues, topics, anycast and multicast addresses of tenants"),
    "send": Command("broker.addresses.traffic_command:send_app", "send messages to an address"),
    "receive": Command("broker.addresses.traffic_command:receive_app", "receive messages from an address"),
    "role": Command("broker.roles:app", "roles of this site beside the built-in ones"),
    "cert": Command("broker.certificates:app", "certificates for trials of TLS and mutual TLS"),
    "explain": Command("gateway.tools.delivery:explain_app", "where a notification is, or how it ended and why"),
    "outbox": Command("gateway.tools.delivery:outbox_app", "the store between NICs and broker: show, size, losses"),
    "sim": Command("gateway.lab.sim:app", "scenarios of a whole mesh of simulated NICs, in virtual time"),
    "config": Command("meshwire.config_tool:app", "print, check or describe the configuration"),
    "doctor": Command("meshwire.doctor:app", "check this installation and say what is amiss"),
    "bench": Command("bench.__main__:app", "comparisons with peers, measured here and now"),
    "help": Command("meshwire.help_tool:app", "explain an error code such as MW-SER-012, off-line"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Never returns a traceback for a foreseeable failure.

    Args:
        arguments: without the program's name; default `sys.argv[1:]`.
    """
    name, rest, level = _split(list(sys.argv[1:] if arguments is None else arguments))
    if name in ("--version", "-V"):
        print(f"meshwire {__version__}")  # noqa: T201
        return ExitCode.OK
    if name is None or name in ("--help", "-h") or (name == "help" and not rest):
        print(overview())  # noqa: T201
        return ExitCode.OK if name else ExitCode.USAGE
    command = COMMANDS.get(name)
    if command is None:
        return _complain(f"meshwire: {_unknown(name)}", ExitCode.USAGE)
    if level is not None:
        os.environ[LEVEL] = logging.getLevelName(level).lower()  # for processes that this one starts, too
    configure_logging(command.log_level)
    return _run(name, command, rest)


def _run(name: str, command: Command, rest: list[str]) -> int:
    verb = command.verbs.get(rest[0] if rest else "")
    module, attribute = (verb or command.target).split(":")
    if command.fast_loop and verb is None:
        use_fast_loop()
    try:
        app = getattr(importlib.import_module(module), attribute)
        app(args=rest, prog_name=f"meshwire {name}")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else ExitCode.FAILURE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`… | head`): nothing to say, and nowhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:
        foreseeable = _first_foreseeable(error) or (None if tells_messages() else _refused_by_system(error))
        if foreseeable is None:
            raise
        if command.log_level <= logging.INFO:
            tell(f"meshwire {name}: {foreseeable}", "error")
            return foreseeable.exit_code
        return _complain(f"meshwire {name}: {foreseeable}", foreseeable.exit_code)
    return ExitCode.OK


def _unknown(name: str) -> str:
    """What is wrong with a word that stands where a command should."""
    if name == "--config":
        return "--config needs a file; do: meshwire --config FILE COMMAND …"
    if name.startswith("-"):
        return f"no option {name!r}; do: see `meshwire --help`, options of a command stand behind it"
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    return f"no command {name!r}; do: " + (f"perhaps `meshwire {near[0]}`; " if near else "") + "see `meshwire --help`"


def use_fast_loop() -> None:
    """Run on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


def _first_foreseeable(error: Exception) -> MeshwireError | None:
    """A task group wraps what its tasks raise; the person wants the cause."""
    if isinstance(error, MeshwireError):
        return error
    if isinstance(error, ExceptionGroup):
        return next(filter(None, map(_first_foreseeable, error.exceptions)), None)
    return None


def _refused_by_system(error: Exception) -> MeshwireError | None:
    # It brings the site's keys and SQLite with it, which a command that goes well may not need.
    from meshwire.system_errors import in_words

    return in_words(error)


def _complain(line: str, code: ExitCode) -> int:
    print(line, file=sys.stderr)  # noqa: T201
    return code


_LEVELS: Final = {
    "-v": logging.DEBUG,
    "--verbose": logging.DEBUG,
    "-q": logging.ERROR,
    "--quiet": logging.ERROR,
}


def _split(arguments: list[str]) -> tuple[str | None, list[str], int | None]:
    """Take the global options in front of the sub-command off: (name, its arguments, log level)."""
    level: int | None = None
    while arguments:
        first = arguments.pop(0)
        if first in _LEVELS:
            level = _LEVELS[first]
        elif first == "--no-color":
            os.environ["NO_COLOR"] = "1"
        elif first == "--config" and arguments:
            os.environ["MESHWIRE_CONFIG"] = arguments.pop(0)
        elif first.startswith("--config="):
            os.environ["MESHWIRE_CONFIG"] = first.removeprefix("--config=")
        else:
            return first, arguments, level
    return None, [], level


def overview() -> str:
    """What `meshwire --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: meshwire [-v | -q] [--no-color] [--config FILE] COMMAND …",
            "",
            *lines,
            "",
            "`meshwire COMMAND --help` shows its options; -v and -q (say more, say less) stand before the command.",
            "Exit codes: " + ", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in ExitCode),
        ]
    )
