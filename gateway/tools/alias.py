"""`meshwire alias|trigger|package|truststore|keystore`: MQTT connection aliases and what belongs to them.

They ask the HTTP API of the gateway that runs, or work on the site's store when none does. Fields are given as
FIELD=VALUE, named as in the configuration; files are named as seen from the shell.
"""

from __future__ import annotations

import base64
import json
import sys
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer

from gateway.aliases.catalogue import Kind
from gateway.aliases.errors import FieldProblem, InvalidAlias, StoreFileError
from gateway.tools.errors import Refused, WrongInput
from gateway.tools.http_api import DEFAULT_HTTP, Answer, HttpOption, JsonOption, ask, expect
from meshwire.errors import ExitCode

__all__ = ["alias_app", "keystore_app", "package_app", "trigger_app", "truststore_app"]

PLURALS: Final = {
    Kind.ALIAS: "aliases",
    Kind.TRIGGER: "triggers",
    Kind.PACKAGE: "packages",
    Kind.TRUSTSTORE: "truststores",
    Kind.KEYSTORE: "keystores",
}
LIVE: Final = (Kind.ALIAS, Kind.TRIGGER)
Fields = dict[str, Any]
NameArgument = Annotated[str, typer.Argument(help="name", metavar="NAME")]
FieldsArgument = Annotated[
    list[str] | None, typer.Argument(help="fields as in the configuration", metavar="[FIELD=VALUE]…")
]
PasswordOption = Annotated[bool, typer.Option("--password-stdin", help="read the password from standard input")]
PublishOption = Annotated[
    list[str] | None,
    typer.Option("--publish", help="rule such as tenant=acme,type=nc*,topic=plant/{mac},qos=1; repeatable"),
]
EnableOption = Annotated[bool, typer.Option("--enable", help="enable it at once")]


# --- the API


def call(http_url: str, method: str, path: str, what: str, body: object = None) -> Any:
    """One request; gives the answer's JSON.

    Args:
        http_url: of the API.
        method: of HTTP.
        path: under `/api/`.
        what: such as `alias plant`, for messages.
        body: becomes JSON.

    Raises:
        InvalidAlias: fields do not fit.
        StoreFileError: a keystore or truststore can't be read.
        Refused: any other answer of 4xx or 5xx.
    """
    answer = ask(http_url, method, f"/api/{path}", body)
    if answer.status == 422 and answer.body.get("errors"):
        raise InvalidAlias(what, [_problem(each) for each in answer.body["errors"]])
    if answer.status >= 400:
        _refuse(answer, what)
    return expect(answer, f"{method} /api/{path}").body


def _problem(error: Mapping[str, str]) -> FieldProblem:
    place = error["pointer"].split("/")
    return FieldProblem(".".join(place[1:] if place[0] == "body" else place), error["detail"])


def _refuse(answer: Answer, what: str) -> None:
    """The problem's own words and code, where it has some."""
    try:
        detail, code = str(answer.body["detail"]), answer.body.get("code")
    except (ValueError, KeyError, TypeError):
        return
    words, _, found = detail.removesuffix("]").rpartition(" [MW-")
    code = code or (f"MW-{found}" if words else None)
    if code is not None:
        kind = StoreFileError if code == StoreFileError.default_code else Refused
        raise kind(f"{what}: {words or detail}", code=code)


def _place(kind: Kind, name: str, *more: str) -> str:
    return "/".join([PLURALS[kind], urllib.parse.quote(name, safe=""), *more])


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
        fields[name] = str(Path(value).absolute()) if name.endswith("_file") and value else _value(value)
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


# --- what all five have in common


def common_verbs(app: typer.Typer, kind: Kind, line: Callable[[Fields], str], *, switch: bool) -> None:
    """`show`, `list`, `remove`; with `switch` also `enable` and `disable`."""

    @app.command("list")
    def list_all(http_url: HttpOption = DEFAULT_HTTP, as_json: JsonOption = False) -> None:
        """List all."""
        for record in call(http_url, "GET", PLURALS[kind], f"{kind} list"):
            if as_json:
                typer.echo(json.dumps(record, ensure_ascii=False))
                continue
            state = f"  {(record.get('live') or {}).get('state', '-')}" if kind in LIVE else ""
            typer.echo(f"{record['name']:<20}  {line(record)}{state}")

    @app.command("show")
    def show(name: NameArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
        """Print all fields as one JSON object; passwords are never shown."""
        answer = call(http_url, "GET", _place(kind, name), f"{kind} {name}")
        if kind is Kind.KEYSTORE:
            answer["keys"] = answer.pop("holds")
        if kind is Kind.TRUSTSTORE:
            answer["authorities"] = [each["subject"] for each in answer.pop("holds")]
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))

    @app.command("remove")
    def remove(name: NameArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
        """Forget it, with the password stored for it."""
        call(http_url, "DELETE", _place(kind, name), f"{kind} {name}")

    if switch:

        @app.command("enable")
        def enable(name: NameArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
            """Enable: every field has to fit."""
            set_enabled(http_url, kind, name, enabled=True)

        @app.command("disable")
        def disable(name: NameArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
            """Disable; what is saved stays."""
            set_enabled(http_url, kind, name, enabled=False)


def add_record(http_url: str, kind: Kind, values: Fields, *, enable: bool = False) -> None:
    """Save a new one, and switch it on where that was asked for."""
    call(http_url, "POST", PLURALS[kind], f"{kind} {values['name']}", values)
    if enable:
        set_enabled(http_url, kind, values["name"], enabled=True)


def set_enabled(http_url: str, kind: Kind, name: str, *, enabled: bool) -> None:
    """Switch it on or off."""
    call(http_url, "POST", _place(kind, name, "enable" if enabled else "disable"), f"{kind} {name}")


def import_document(http_url: str, file: Path) -> None:
    """Save what an export holds; what lacks a secret here is saved disabled, and told."""
    missing = call(http_url, "POST", "packages/import", "the export", _document(file))["missing"]
    for name, problems in missing.items():
        told = "; ".join(f"{field}: {message}" for field, message in problems.items())
        typer.echo(f"{name} is saved, disabled; missing here: {told}", err=True)


def _on(record: Fields) -> str:
    return "enabled " if record.get("enabled") else "disabled"


# --- alias

alias_app = typer.Typer(add_completion=False, help="MQTT connection aliases.", no_args_is_help=True)
common_verbs(alias_app, Kind.ALIAS, lambda r: f"{_on(r)}  {r['package']:<12}  {r['host']}", switch=True)


@alias_app.command("add")
def add_alias(
    name: NameArgument,
    host: Annotated[str, typer.Argument(help="tcp://HOST:PORT, ssl://…, ws://…/PATH or wss://…/PATH")],
    fields: FieldsArgument = None,
    publish: PublishOption = None,
    password_stdin: PasswordOption = False,
    enable: EnableOption = False,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Save a new alias; it connects once it is enabled."""
    values = fields_of(fields, with_password=password_stdin) | {"name": name, "host": host}
    if publish:
        values["publish"] = rules_of(publish)
    add_record(http_url, Kind.ALIAS, values, enable=enable)


@alias_app.command("set")
def set_alias(
    name: NameArgument,
    fields: FieldsArgument = None,
    publish: PublishOption = None,
    password_stdin: PasswordOption = False,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Change fields; those not named stay. --publish replaces all rules."""
    values = fields_of(fields, with_password=password_stdin)
    if publish:
        values["publish"] = rules_of(publish)
    call(http_url, "PATCH", _place(Kind.ALIAS, name), f"alias {name}", values)


@alias_app.command("test")
def test_alias(name: NameArgument, http_url: HttpOption = DEFAULT_HTTP, as_json: JsonOption = False) -> None:
    """Walk to the broker: DNS, TCP, TLS, CONNECT, CONNACK; say the cause where it ends."""
    steps = call(http_url, "POST", _place(Kind.ALIAS, name, "test"), f"alias {name}")["steps"]
    for step in steps:
        typer.echo(json.dumps(step, ensure_ascii=False) if as_json else step_line(step))
    if not steps[-1]["ok"]:
        raise typer.Exit(exit_code(steps[-1]))


@alias_app.command("export")
def export_some(
    names: Annotated[list[str] | None, typer.Argument(help="names; none: all")] = None,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Print aliases with their triggers and truststores as JSON, without secrets."""
    document = call(http_url, "POST", "aliases/export", "the export", {"names": names or []})
    typer.echo(json.dumps(document, indent=1, ensure_ascii=False))


@alias_app.command("import")
def import_some(
    file: Annotated[Path, typer.Argument(help="made by export; - reads standard input")],
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Save what an export holds."""
    import_document(http_url, file)


def step_line(step: Fields) -> str:
    """One step of a test for people."""
    line = f"{step['step']:<10} {'ok' if step['ok'] else 'FAILED':<7} {step['ms']:7.1f} ms  {step['evidence']}"
    if step["ok"]:
        return line
    return f"{line}\n{'':<11}cause: {step['cause']} [{step['code']}]\n{'':<11}do: {step['fix']}"


def exit_code(step: Fields) -> ExitCode:
    """The command's exit code for the step that failed."""
    if step["step"] == "fields":
        return ExitCode.CONFIGURATION
    if step["code"] in ("MW-ALI-112", "MW-ALI-102"):
        return ExitCode.TIMED_OUT
    refused = step["step"] == "connack" and step["code"] not in ("MW-ALI-141", "MW-ALI-142")
    return ExitCode.REFUSED if refused or step["code"] in ("MW-ALI-126", "MW-ALI-127") else ExitCode.NOT_REACHABLE


# --- trigger

trigger_app = typer.Typer(
    add_completion=False, help="Triggers: subscriptions bound to an alias, and what they do.", no_args_is_help=True
)
common_verbs(
    trigger_app,
    Kind.TRIGGER,
    lambda r: f"{_on(r)}  {r['alias']:<12}  {r['action']['kind']}",
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
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Save a new trigger; without --action it writes a log line for each message."""
    values = {"subscriptions": []} | _trigger_fields(fields, subscribe, action) | {"name": name, "alias": alias}
    add_record(http_url, Kind.TRIGGER, values, enable=enable)


@trigger_app.command("set")
def set_trigger(
    name: NameArgument,
    fields: FieldsArgument = None,
    subscribe: SubscribeOption = None,
    action: ActionOption = None,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Change fields; --subscribe and --action replace all of theirs."""
    values = _trigger_fields(fields, subscribe, action)
    call(http_url, "PATCH", _place(Kind.TRIGGER, name), f"trigger {name}", values)


# --- package

package_app = typer.Typer(
    add_completion=False,
    help="Packages: aliases and triggers enabled, disabled and moved together.",
    no_args_is_help=True,
)
common_verbs(package_app, Kind.PACKAGE, lambda r: f"{_on(r)}  {r['description']}", switch=True)


@package_app.command("add")
def add_package(name: NameArgument, fields: FieldsArgument = None, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """Save a new package; it is enabled."""
    add_record(http_url, Kind.PACKAGE, fields_of(fields) | {"name": name})


@package_app.command("export")
def export_one(name: NameArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """Print a package with its aliases, triggers and truststores as JSON, without secrets."""
    document = call(http_url, "GET", _place(Kind.PACKAGE, name, "export"), f"package {name}")
    typer.echo(json.dumps(document, indent=1, ensure_ascii=False))


@package_app.command("import")
def import_one(
    file: Annotated[Path, typer.Argument(help="made by export; - reads standard input")],
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Save a package with all that it holds; what lacks a secret here is saved disabled, and told."""
    import_document(http_url, file)


def _document(file: Path) -> dict[str, object]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        return cast("dict[str, object]", json.loads(text))
    except (OSError, ValueError) as error:
        raise WrongInput(
            "can't read the export", evidence=f"{file}: {error}", fix="give a file made by export"
        ) from None


# --- stores

truststore_app = typer.Typer(
    add_completion=False, help="Truststores: authorities that sign brokers' certificates.", no_args_is_help=True
)
keystore_app = typer.Typer(
    add_completion=False, help="Keystores: client keys with their certificates.", no_args_is_help=True
)
common_verbs(truststore_app, Kind.TRUSTSTORE, lambda r: str(r["file"]), switch=False)
common_verbs(keystore_app, Kind.KEYSTORE, lambda r: str(r["file"]), switch=False)
FileArgument = Annotated[Path | None, typer.Argument(help="PEM or PKCS#12 file; it is copied", metavar="FILE")]


@truststore_app.command("add")
def add_truststore(
    name: NameArgument,
    file: FileArgument = None,
    fields: FieldsArgument = None,
    system: Annotated[bool, typer.Option("--system", help="trust the system's authorities, too")] = False,
    password_stdin: PasswordOption = False,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Save a truststore."""
    values = fields_of(fields, with_password=password_stdin) | {"name": name, "system": system}
    _add_store(http_url, Kind.TRUSTSTORE, file, values)


@keystore_app.command("add")
def add_keystore(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(help="PEM or PKCS#12 file; it is copied", metavar="FILE")],
    fields: FieldsArgument = None,
    password_stdin: PasswordOption = False,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Save a keystore; `keystore show` lists its key aliases."""
    _add_store(http_url, Kind.KEYSTORE, file, fields_of(fields, with_password=password_stdin) | {"name": name})


def _add_store(http_url: str, kind: Kind, file: Path | None, values: Fields) -> None:
    if file is not None:
        try:
            octets = file.read_bytes()
        except OSError as error:
            raise WrongInput("can't read the file", evidence=str(error), fix="give PEM or PKCS#12") from None
        values["content"] = base64.b64encode(octets).decode()
    add_record(http_url, kind, values)
