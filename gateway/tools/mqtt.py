"""`meshwire mqtt sub|pub`: options and output as users of mosquitto_sub and mosquitto_pub know them.

Differences: `--json` is a shorthand for one JSON object a message, and a payload that is no text is printed as
hexadecimal digits after `hex:` on a terminal, octet for octet elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, cast

import aiomqtt
import typer
from paho.mqtt.properties import Properties

from gateway.tools.errors import Refused, TimedOut, WrongInput
from gateway.tools.mqtt_troubles import check_filters, check_topic, explain, payload_of, tls_context, verdicts

__all__ = ["Connection", "app", "message_properties", "open_client", "subscribe"]

app = typer.Typer(
    add_completion=False, help="Subscribe and publish, as mosquitto_sub and mosquitto_pub do.", no_args_is_help=True
)

VERSIONS: Final = {
    "31": aiomqtt.ProtocolVersion.V31,
    "mqttv31": aiomqtt.ProtocolVersion.V31,
    "311": aiomqtt.ProtocolVersion.V311,
    "mqttv311": aiomqtt.ProtocolVersion.V311,
    "5": aiomqtt.ProtocolVersion.V5,
    "mqttv5": aiomqtt.ProtocolVersion.V5,
}


@dataclass(frozen=True, slots=True)
class Connection:
    """Where and as whom to connect. `client_id` None lets the library choose one."""

    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    client_id: str | None = None
    version: str = "311"
    keep_alive_s: int = 60
    clean: bool = True
    cafile: Path | None = None
    cert: Path | None = None
    key: Path | None = None


def open_client(connection: Connection) -> aiomqtt.Client:
    """An aiomqtt client for `connection`; entering it connects."""
    version = VERSIONS.get(connection.version.lower())
    if version is None:
        raise WrongInput("unknown MQTT version", evidence=connection.version, fix="use -V 5, 311 or 31")
    five = version is aiomqtt.ProtocolVersion.V5
    return aiomqtt.Client(
        connection.host,
        connection.port,
        username=connection.username,
        password=connection.password,
        identifier=connection.client_id,
        protocol=version,
        keepalive=connection.keep_alive_s,
        clean_session=None if five else connection.clean,
        clean_start=connection.clean if five else 3,
        tls_context=tls_context(connection.cafile, connection.cert, connection.key),
        max_inflight_messages=1000,
    )


async def subscribe(client: aiomqtt.Client, filters: Sequence[str], qos: int) -> None:
    """Subscribe to each filter; raises Refused where the broker grants one of them nothing."""
    for text in filters:
        granted = await client.subscribe(text, qos=qos)
        for code in granted:
            value = code if isinstance(code, int) else code.value
            if value >= 0x80:
                raise Refused(
                    "the broker refused the subscription",
                    evidence=f"{text}: reason 0x{value:02x}",
                    fix="subscribe below your own tenant, in a branch that your roles allow",
                )


def message_properties(message: aiomqtt.Message) -> dict[str, object]:
    """Content type and user properties of an MQTT 5 message; empty otherwise."""
    if message.properties is None:
        return {}
    raw = cast("dict[str, Any]", message.properties.json())
    pairs = raw.get("UserProperty", [])
    found: dict[str, object] = {str(name): value for name, value in pairs}
    if "ContentType" in raw:
        found["content_type"] = raw["ContentType"]
    return found


HostOption = Annotated[str, typer.Option("-h", "--host", help="broker host")]
PortOption = Annotated[int, typer.Option("-p", "--port", help="broker port", envvar="MESHWIRE_MQTT_PORT")]
UserOption = Annotated[str | None, typer.Option("-u", "--username", help="user name (`notused` with a token)")]
PasswordOption = Annotated[str | None, typer.Option("-P", "--pw", help="password or token", envvar="MESHWIRE_TOKEN")]
IdOption = Annotated[str | None, typer.Option("-i", "--id", help="client id")]
VersionOption = Annotated[str, typer.Option("-V", "--protocol-version", help="5, 311 or 31")]
QosOption = Annotated[int, typer.Option("-q", "--qos", min=0, max=2)]
KeepAliveOption = Annotated[int, typer.Option("-k", "--keepalive", help="seconds")]
CafileOption = Annotated[Path | None, typer.Option("--cafile", help="CA certificates; turns TLS on")]
CertOption = Annotated[Path | None, typer.Option("--cert", help="client certificate")]
KeyOption = Annotated[Path | None, typer.Option("--key", help="its private key")]


@app.command("sub")
def sub(
    topics: Annotated[list[str], typer.Option("-t", "--topic", help="topic filter, repeatable")],
    host: HostOption = "127.0.0.1",
    port: PortOption = 1883,
    qos: QosOption = 0,
    count: Annotated[int | None, typer.Option("-C", help="end after so many messages", min=1)] = None,
    wait_s: Annotated[float | None, typer.Option("-W", help="end after so many seconds (exit code 27)")] = None,
    username: UserOption = None,
    password: PasswordOption = None,
    client_id: IdOption = None,
    version: VersionOption = "311",
    keep_alive_s: KeepAliveOption = 60,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="print the topic before the payload")] = False,
    form: Annotated[str | None, typer.Option("-F", help="format as in mosquitto_sub: %t %p %x %q %r %l %U %j")] = None,
    keep_session: Annotated[bool, typer.Option("-c", "--disable-clean-session", help="keep the session")] = False,
    no_retained: Annotated[bool, typer.Option("-R", help="leave stale retained messages out")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a message")] = False,
    cafile: CafileOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Print messages as they arrive."""
    connection = Connection(
        host, port, username, password, client_id, version, keep_alive_s, not keep_session, cafile, cert, key
    )
    check_filters(topics)
    form = "%j" if as_json else form or ("%t %p" if verbose else "%p")

    async def run() -> None:
        async with open_client(connection) as client:
            await subscribe(client, topics, qos)
            left = count
            async for message in client.messages:
                if no_retained and message.retain:
                    continue
                _write(_render(form, message))
                if left is not None and (left := left - 1) == 0:
                    return

    _run(run(), connection, wait_s)


@app.command("pub")
def pub(
    topic: Annotated[str, typer.Option("-t", "--topic")],
    message: Annotated[str | None, typer.Option("-m", "--message", help="payload")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="payload from a file")] = None,
    lines: Annotated[bool, typer.Option("-l", "--stdin-line", help="a message for each line of stdin")] = False,
    whole: Annotated[bool, typer.Option("-s", "--stdin-file", help="standard input as one payload")] = False,
    null: Annotated[bool, typer.Option("-n", "--null-message", help="empty payload")] = False,
    retain: Annotated[bool, typer.Option("-r", "--retain")] = False,
    host: HostOption = "127.0.0.1",
    port: PortOption = 1883,
    qos: QosOption = 0,
    username: UserOption = None,
    password: PasswordOption = None,
    client_id: IdOption = None,
    version: VersionOption = "311",
    keep_alive_s: KeepAliveOption = 60,
    cafile: CafileOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
) -> None:
    """Publish one message, or one for each line of standard input."""
    connection = Connection(host, port, username, password, client_id, version, keep_alive_s, True, cafile, cert, key)
    if [message is not None, file is not None, lines, whole, null].count(True) != 1:
        raise WrongInput("nothing or too much to publish", fix="give exactly one of -m, -f, -l, -s, -n")
    check_topic(topic)
    given = message.encode() if message is not None else b"" if null else payload_of(file) if file is not None else None

    async def run() -> None:
        async with open_client(connection) as client:
            answers = verdicts(client)
            for payload in _payloads(given, whole=whole):
                await client.publish(topic, payload, qos=qos, retain=retain)
                if answers and (verdict := answers.pop()).is_failure:
                    raise Refused(
                        "the broker refused the message",
                        evidence=f"{topic}: {verdict}",
                        fix="publish below your own tenant, in a branch that your roles allow",
                    )

    _run(run(), connection, None)


def _payloads(given: bytes | None, *, whole: bool) -> Iterator[bytes]:
    """What was given, or else standard input: as a whole, or a message for each line."""
    if given is not None:
        yield given
    elif whole:
        yield sys.stdin.buffer.read()
    else:
        for line in sys.stdin.buffer:
            yield line.rstrip(b"\n")


def _run(work: object, connection: Connection, wait_s: float | None) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(wait_s):
            await work  # type: ignore[misc]

    try:
        asyncio.run(bounded())
    except TimeoutError:
        raise TimedOut("no more messages in time", evidence=f"-W {wait_s:g}", fix="wait longer, or check -t") from None
    except (aiomqtt.MqttError, OSError) as error:
        where = f"{connection.host}:{connection.port}"
        raise explain(error, where, secured=connection.cafile is not None or connection.cert is not None) from None


def _write(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _render(form: str, message: aiomqtt.Message) -> bytes:
    """Fill a mosquitto_sub format; unknown directives stay as they are."""
    payload = message.payload if isinstance(message.payload, bytes) else str(message.payload).encode()
    now = time.time()
    fields: dict[str, bytes] = {
        "t": message.topic.value.encode(),
        "p": _printable(payload),
        "x": payload.hex().encode(),
        "X": payload.hex().upper().encode(),
        "q": str(message.qos).encode(),
        "r": str(int(message.retain)).encode(),
        "l": str(len(payload)).encode(),
        "U": f"{now:.9f}".encode(),
        "I": datetime.fromtimestamp(now).astimezone().isoformat().encode(),
        "j": _json_line(message, payload, now),
        "%": b"%",
    }
    rendered, rest = b"", form
    while "%" in rest:
        text, _, rest = rest.partition("%")
        directive, rest = rest[:1], rest[1:]
        rendered += text.encode() + fields.get(directive, f"%{directive}".encode())
    return rendered + rest.encode()


def _printable(payload: bytes) -> bytes:
    if not os.isatty(sys.stdout.fileno()):
        return payload
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return b"hex:" + payload.hex().encode()
    return payload if text.isprintable() else b"hex:" + payload.hex().encode()


def _json_line(message: aiomqtt.Message, payload: bytes, now: float) -> bytes:
    record: dict[str, object] = {
        "tst": datetime.fromtimestamp(now).astimezone().isoformat(),
        "topic": message.topic.value,
        "qos": message.qos,
        "retain": int(message.retain),
        "payloadlen": len(payload),
        "payload": payload.decode(errors="replace"),
        "payload_hex": payload.hex(),
    }
    if isinstance(message.properties, Properties):
        record["properties"] = message_properties(message)
    return json.dumps(record, ensure_ascii=False).encode()
