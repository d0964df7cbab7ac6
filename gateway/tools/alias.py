"""`meshwire alias|trigger|package|truststore|keystore`: MQTT connection aliases and what belongs to them.

The commands work on the site's store directly, so they need no running gateway; one that runs notices within a second.
Whoever may read the state folder is the administrator. Fields are given as FIELD=VALUE, named as in the configuration.
"""

from __future__ import annotations

import http.client
import json
import sys
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer

from gateway.aliases.catalogue import Kind, Record
from gateway.aliases.errors import FieldProblem
from gateway.aliases.store import AliasStore, build, declared_in
from gateway.aliases.transfer import export_aliases, export_package, import_document
from gateway.aliases.trial import Step, walk
from gateway.settings import GatewaySettings
from gateway.tools.errors import WrongInput
from gateway.tools.http_api import DEFAULT_HTTP, admin_token
from meshwire.config import load_config, read_settings
from meshwire.errors import ExitCode
from meshwire.site import Site

__all__ = ["alias_app", "keystore_app", "package_app", "trigger_app", "truststore_app"]

LIVE_TIMEOUT_S: Final = 3.0
NameArgument = Annotated[str, typer.Argument(help="name", metavar="NAME")]
FieldsArgument = Annotated[
    list[str] | None, typer.Argument(help="fields as in the configuration", metavar="[FIELD=VALUE]…")
]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON object a line")]
HttpOption = Annotated[str, typer.Option("--http", help="the gateway's HTTP API", envvar="MESHWIRE_HTTP")]
PasswordOption = Annotated[bool, typer.Option("--password-stdin", help="read the password from standard input")]
PublishOption = Annotated[
    list[str] | None,
    typer.Option("--publish", help="rule such as tenant=acme,type=nc*,topic=plant/{mac},qos=1; repeatable"),
]
EnableOption = Annotated[bool, typer.Option("--enable", help="enable it at once")]


def open_store() -> AliasStore:
    """The site's store, with what the configuration file declares."""
    settings = read_settings(GatewaySettings, "gateway", load_config(None))
    return AliasStore(Site.default(), declared_in(settings))


# --- fields


def fields_of(texts: Sequence[str] | None, *, with_password: bool = False) -> dict[str, object]:
    """FIELD=VALUE into a mapping; a value that begins with [ or { is JSON."""
    fields: dict[str, object] = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign:
            raise WrongInput("not a field", evidence=text, fix="write FIELD=VALUE, such as keep_alive_s=60")
        name = name.strip().replace("-", "_")
        if name == "password" and value and not (value.startswith("${") and value.endswith("}")):
            raise WrongInput(
                "a password on the command line is seen by everybody on this machine",
                evidence="password=…",
                fix="use --password-stdin, password_file=PATH or 'password=${NAME}'",
            )
        fields[name] = _value(value)
    if with_password:
        fields["password"] = sys.stdin.readline().rstrip("\r\n")
    return fields


def _value(text: str) -> object:
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def rules_of(texts: Sequence[str]) -> list[dict[str, object]]:
    """`--publish` into rules."""
    return [fields_of([part for part in text.split(",") if part]) for text in texts]


def shown(record: Record) -> dict[str, Any]:
    """For people and scripts; secrets are stars."""
    return record.model_dump(mode="json")


# --- what all five have in common


def _say(lines: dict[str, list[FieldProblem]]) -> None:
    for name, problems in lines.items():
        typer.echo(f"{name} is saved, disabled; missing here: {'; '.join(map(str, problems))}", err=True)


def common_verbs(app: typer.Typer, kind: Kind, line: Callable[[Record], str], *, switch: bool) -> None:
    """`show`, `list`, `remove`; with `switch` also `enable` and `disable`."""

    @app.command("list")
    def list_all(http_url: HttpOption = DEFAULT_HTTP, as_json: JsonOption = False) -> None:
        """List all."""
        store = open_store()
        states = live_states(kind, http_url) if kind in (Kind.ALIAS, Kind.TRIGGER) else {}
        for name, record in sorted(store.catalogue.of(kind).items()):
            origin = "file" if (kind, name) in store.catalogue.declared else "store"
            if as_json:
                typer.echo(json.dumps(shown(record) | {"origin": origin, "live": states.get(name)}))
            else:
                state = cast("dict[str, str]", states.get(name) or {})
                extra = f"  {state.get('state', '-')}" if kind in (Kind.ALIAS, Kind.TRIGGER) else ""
                typer.echo(f"{name:<20}  {line(record)}{extra}")

    @app.command("show")
    def show(name: NameArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
        """Print all fields as one JSON object; passwords are never shown."""
        store = open_store()
        record = store.catalogue.find(kind, name)
        answer = shown(record)
        if kind in (Kind.ALIAS, Kind.TRIGGER):
            answer["live"] = live_states(kind, http_url).get(name)
            answer["problems"] = {each.field: each.message for each in store.check(record)}
        if kind is Kind.KEYSTORE:
            answer["keys"] = [
                {
                    "alias": each.alias,
                    "subject": each.certificate.subject.rfc4514_string(),
                    "ends": each.ends.isoformat(),
                }
                for each in store.catalogue.key_entries(name, store.environment).values()
            ]
        if kind is Kind.TRUSTSTORE:
            anchors, _ = store.catalogue.anchors(name, store.environment)
            answer["authorities"] = [cast("Any", each).subject.rfc4514_string() for each in anchors]
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))

    @app.command("remove")
    def remove(name: NameArgument) -> None:
        """Forget it, with the password stored for it."""
        open_store().remove(kind, name)

    if switch:

        @app.command("enable")
        def enable(name: NameArgument) -> None:
            """Enable: every field has to fit."""
            open_store().set_enabled(kind, name, enabled=True)

        @app.command("disable")
        def disable(name: NameArgument) -> None:
            """Disable; what is saved stays."""
            open_store().set_enabled(kind, name, enabled=False)


def live_states(kind: Kind, http_url: str) -> dict[str, object]:
    """What a running gateway says of its aliases or triggers; empty when none answers."""
    parts = urllib.parse.urlsplit(http_url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=LIVE_TIMEOUT_S)
    try:
        connection.request("GET", "/api/status", headers={"Authorization": admin_token()})
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    found = answer.get("aliases" if kind is Kind.ALIAS else "triggers") if isinstance(answer, dict) else None
    return found if isinstance(found, dict) else {}


def _on(record: Record) -> str:
    return "enabled " if getattr(record, "enabled", False) else "disabled"


# --- alias

alias_app = typer.Typer(help="MQTT connection aliases.", no_args_is_help=True)
common_verbs(
    alias_app, Kind.ALIAS, lambda r: f"{_on(r)}  {getattr(r, 'package', ''):<12}  {getattr(r, 'host', '')}", switch=True
)


@alias_app.command("add")
def add_alias(
    name: NameArgument,
    host: Annotated[str, typer.Argument(help="tcp://HOST:PORT, ssl://…, ws://…/PATH or wss://…/PATH")],
    fields: FieldsArgument = None,
    publish: PublishOption = None,
    password_stdin: PasswordOption = False,
    enable: EnableOption = False,
) -> None:
    """Save a new alias; it connects once it is enabled."""
    values = fields_of(fields, with_password=password_stdin) | {"name": name, "host": host}
    if publish:
        values["publish"] = rules_of(publish)
    store = open_store()
    store.add(build(Kind.ALIAS, values))
    if enable:
        store.set_enabled(Kind.ALIAS, name, enabled=True)


@alias_app.command("set")
def set_alias(
    name: NameArgument,
    fields: FieldsArgument = None,
    publish: PublishOption = None,
    password_stdin: PasswordOption = False,
) -> None:
    """Change fields; those not named stay. --publish replaces all rules."""
    values = fields_of(fields, with_password=password_stdin)
    if publish:
        values["publish"] = rules_of(publish)
    open_store().change(Kind.ALIAS, name, values)


@alias_app.command("test")
def test_alias(name: NameArgument, as_json: JsonOption = False) -> None:
    """Walk to the broker: DNS, TCP, TLS, CONNECT, CONNACK; say the cause where it ends."""
    store = open_store()
    last: Step | None = None
    for step in walk(store.catalogue.alias(name), store.catalogue, store.site, store.environment):
        last = step
        typer.echo(json.dumps(step_record(step)) if as_json else step_line(step))
    assert last is not None
    if not last.is_ok:
        raise typer.Exit(exit_code(last))


@alias_app.command("export")
def export_some(names: Annotated[list[str] | None, typer.Argument(help="names; none: all")] = None) -> None:
    """Print aliases with their triggers and truststores as JSON, without secrets."""
    typer.echo(json.dumps(export_aliases(open_store(), names or ()), indent=1, ensure_ascii=False))


@alias_app.command("import")
def import_some(file: Annotated[Path, typer.Argument(help="made by export; - reads standard input")]) -> None:
    """Save what an export holds."""
    _say(import_document(open_store(), _document(file)))


def step_record(step: Step) -> dict[str, object]:
    """One step for `--json`."""
    record: dict[str, object] = {
        "step": step.name,
        "ok": step.is_ok,
        "ms": round(step.took_ms, 1),
        "evidence": step.evidence,
    }
    if not step.is_ok:
        record |= {"code": step.code, "cause": step.cause, "fix": step.fix}
    return record


def step_line(step: Step) -> str:
    """One step for people."""
    line = f"{step.name:<10} {'ok' if step.is_ok else 'FAILED':<7} {step.took_ms:7.1f} ms  {step.evidence}"
    return line if step.is_ok else f"{line}\n{'':<11}cause: {step.cause} [{step.code}]\n{'':<11}do: {step.fix}"


def exit_code(step: Step) -> ExitCode:
    """The command's exit code for the step that failed."""
    if step.name == "fields":
        return ExitCode.CONFIGURATION
    if step.code in ("MW-ALI-112", "MW-ALI-102"):
        return ExitCode.TIMED_OUT
    refused = step.name == "connack" and step.code not in ("MW-ALI-141", "MW-ALI-142")
    return ExitCode.REFUSED if refused or step.code in ("MW-ALI-126", "MW-ALI-127") else ExitCode.NOT_REACHABLE


# --- trigger

trigger_app = typer.Typer(help="Triggers: subscriptions bound to an alias, and what they do.", no_args_is_help=True)
common_verbs(
    trigger_app,
    Kind.TRIGGER,
    lambda r: f"{_on(r)}  {getattr(r, 'alias', ''):<12}  {getattr(getattr(r, 'action', None), 'kind', '')}",
    switch=True,
)
SubscribeOption = Annotated[list[str] | None, typer.Option("--subscribe", help="FILTER or FILTER:QOS; repeatable")]
ActionOption = Annotated[
    list[str] | None, typer.Option("--action", help="field of the action, such as kind=http, url=…; repeatable")
]


def subscriptions_of(texts: Sequence[str]) -> list[dict[str, object]]:
    """`--subscribe` into subscriptions; QoS 1 where none is given."""
    found: list[dict[str, object]] = []
    for text in texts:
        topic, sign, qos = text.rpartition(":")
        is_plain = not sign or qos not in ("0", "1", "2")
        found.append({"filter": text} if is_plain else {"filter": topic, "qos": int(qos)})
    return found


def _trigger_fields(
    fields: Sequence[str] | None, subscribe: Sequence[str] | None, action: Sequence[str] | None
) -> dict[str, object]:
    values = fields_of(fields)
    if subscribe:
        values["subscriptions"] = subscriptions_of(subscribe)
    if action:
        values["action"] = fields_of(action)
    return values


@trigger_app.command("add")
def add_trigger(
    name: NameArgument,
    alias: Annotated[str, typer.Argument(help="alias whose broker is asked")],
    fields: FieldsArgument = None,
    subscribe: SubscribeOption = None,
    action: ActionOption = None,
    enable: EnableOption = False,
) -> None:
    """Save a new trigger; without --action it writes a log line for each message."""
    values = {"subscriptions": []} | _trigger_fields(fields, subscribe, action) | {"name": name, "alias": alias}
    store = open_store()
    store.add(build(Kind.TRIGGER, values))
    if enable:
        store.set_enabled(Kind.TRIGGER, name, enabled=True)


@trigger_app.command("set")
def set_trigger(
    name: NameArgument,
    fields: FieldsArgument = None,
    subscribe: SubscribeOption = None,
    action: ActionOption = None,
) -> None:
    """Change fields; --subscribe and --action replace all of theirs."""
    open_store().change(Kind.TRIGGER, name, _trigger_fields(fields, subscribe, action))


# --- package

package_app = typer.Typer(
    help="Packages: aliases and triggers enabled, disabled and moved together.", no_args_is_help=True
)
common_verbs(package_app, Kind.PACKAGE, lambda r: f"{_on(r)}  {r.description}", switch=True)


@package_app.command("add")
def add_package(name: NameArgument, fields: FieldsArgument = None) -> None:
    """Save a new package; it is enabled."""
    open_store().add(build(Kind.PACKAGE, fields_of(fields) | {"name": name}))


@package_app.command("export")
def export_one(name: NameArgument) -> None:
    """Print a package with its aliases, triggers and truststores as JSON, without secrets."""
    typer.echo(json.dumps(export_package(open_store(), name), indent=1, ensure_ascii=False))


@package_app.command("import")
def import_one(file: Annotated[Path, typer.Argument(help="made by export; - reads standard input")]) -> None:
    """Save a package with all that it holds; what lacks a secret here is saved disabled, and told."""
    _say(import_document(open_store(), _document(file)))


def _document(file: Path) -> dict[str, object]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        return cast("dict[str, object]", json.loads(text))
    except (OSError, ValueError) as error:
        raise WrongInput(
            "can't read the export", evidence=f"{file}: {error}", fix="give a file made by export"
        ) from None


# --- stores

truststore_app = typer.Typer(help="Truststores: authorities that sign brokers' certificates.", no_args_is_help=True)
keystore_app = typer.Typer(help="Keystores: client keys with their certificates.", no_args_is_help=True)
common_verbs(truststore_app, Kind.TRUSTSTORE, lambda r: getattr(r, "file", ""), switch=False)
common_verbs(keystore_app, Kind.KEYSTORE, lambda r: getattr(r, "file", ""), switch=False)
FileArgument = Annotated[Path | None, typer.Argument(help="PEM or PKCS#12 file; it is copied", metavar="FILE")]


@truststore_app.command("add")
def add_truststore(
    name: NameArgument,
    file: FileArgument = None,
    fields: FieldsArgument = None,
    system: Annotated[bool, typer.Option("--system", help="trust the system's authorities, too")] = False,
    password_stdin: PasswordOption = False,
) -> None:
    """Save a truststore."""
    values = fields_of(fields, with_password=password_stdin) | {"name": name, "system": system}
    _add_store(Kind.TRUSTSTORE, name, file, values)


@keystore_app.command("add")
def add_keystore(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(help="PEM or PKCS#12 file; it is copied", metavar="FILE")],
    fields: FieldsArgument = None,
    password_stdin: PasswordOption = False,
) -> None:
    """Save a keystore; `keystore show` lists its key aliases."""
    _add_store(Kind.KEYSTORE, name, file, fields_of(fields, with_password=password_stdin) | {"name": name})


def _add_store(kind: Kind, name: str, file: Path | None, values: dict[str, object]) -> None:
    store = open_store()
    values["file"] = str(file) if file is not None else ""
    store.add(build(kind, values), copying=file)
