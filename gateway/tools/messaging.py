"""`meshwire account`, `instance`, `endpoint`: the messaging service.

`meshwire instance show|check|generate|trial …` are the broker's (`broker/adapters`).
"""

from __future__ import annotations

import json
import shlex
import socket
import urllib.parse
from collections.abc import Collection
from typing import Annotated, Any

import typer

from gateway.messaging.rules import Option
from gateway.tools.errors import Refused, WrongInput
from gateway.tools.http_api import (
    DEFAULT_HTTP,
    HttpOption,
    JsonOption,
    ask,
    call,
    everything,
    expect,
    quoted,
    tenant_of,
)

__all__ = ["account_app", "endpoint_app", "instance_app"]

account_app = typer.Typer(
    add_completion=False,
    help="Accounts: the tree, its assignment to messaging instances, connection settings.",
    no_args_is_help=True,
)
instance_app = typer.Typer(
    add_completion=False,
    help="Messaging service instances: the brokers that serve accounts.",
    no_args_is_help=True,
)
endpoint_app = typer.Typer(
    add_completion=False, help="Endpoints: addresses of the messaging service.", no_args_is_help=True
)

OPTION_HELP = "plain, tls or mutual; repeatable"
IdArgument = Annotated[str, typer.Argument(help="account id: the tenant's")]
NameArgument = Annotated[str, typer.Argument(help="name of the instance")]
EndpointArgument = Annotated[str, typer.Argument(help="id of the endpoint")]
OptionOption = Annotated[list[Option] | None, typer.Option("--option", help=OPTION_HELP)]
ConfirmOption = Annotated[bool, typer.Option("--yes", help="also when it is in use")]


# --- accounts


@account_app.command("list")
def list_accounts(http_url: HttpOption = DEFAULT_HTTP, as_json: JsonOption = False) -> None:
    """The tree of accounts, where each is served, and how it may connect."""
    for account in everything(http_url, "/api/accounts", "accounts"):
        if as_json:
            typer.echo(json.dumps(account))
            continue
        name = "  " * account["level"] + account["id"]
        served = account["instance"] or "not assigned"
        how = " (inherited)" if account["inherits"] else ""
        typer.echo(f"{name:<24}  {served}{how}  {', '.join(account['options'])}  {account['title']}".rstrip())


@account_app.command("add")
def add_account(
    account: IdArgument,
    parent: Annotated[str | None, typer.Option("--parent", help="account above it; default: the root account")] = None,
    title: Annotated[str, typer.Option("--title", help="a name for people")] = "",
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Make an account. On level one every instance refuses it until it is assigned; below, it inherits."""
    body = {"id": tenant_of(account).value, "title": title} | ({} if parent is None else {"parent": parent})
    typer.echo(json.dumps(call(http_url, "POST", "/api/accounts", body)))


@account_app.command("show")
def show_account(account: IdArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """One account with the endpoints that its clients use, as JSON."""
    shown = call(http_url, "GET", _account(account))
    endpoints = [*everything(http_url, f"{_account(account)}/endpoints", "endpoints")]
    typer.echo(json.dumps({**shown, "endpoints": endpoints}, indent=2))


@account_app.command("assign")
def assign_account(account: IdArgument, instance: NameArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """Assign an account, and all that inherit from it, to an instance; also from another one."""
    typer.echo(json.dumps(call(http_url, "PUT", f"{_account(account)}/assignment", {"instance": instance})))


@account_app.command("unassign")
def unassign_account(account: IdArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """Take the assignment away: connections are cut within a second, and every instance refuses the account."""
    typer.echo(json.dumps(call(http_url, "DELETE", f"{_account(account)}/assignment")))


@account_app.command("connections")
def set_connections(
    account: IdArgument,
    option: OptionOption = None,
    inherit: Annotated[bool, typer.Option("--inherit", help="what the accounts above have, or the instance")] = False,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Set how the account may connect: a subset of what its instance offers."""
    if inherit == bool(option):
        raise WrongInput("what is to be set?", evidence="no option, or two", fix="name --option …, or --inherit")
    body = {"options": None if inherit else option}
    typer.echo(json.dumps(call(http_url, "PUT", f"{_account(account)}/connection-settings", body)))


@account_app.command("new")
def new_account(
    account: IdArgument,
    title: Annotated[str | None, typer.Option("--title", help="a name for people")] = None,
    instance: Annotated[str | None, typer.Option("--instance", help="who serves it")] = None,
    option: OptionOption = None,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="URL such as mqtts://broker.example.net:8883; none: as above it")
    ] = None,
    ask_nothing: Annotated[bool, typer.Option("--batch", help="take defaults instead of asking")] = False,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """The way to a new account, step by step: create, assign, connection settings, endpoint, credentials.

    A way that was not gone to its end can be taken up again.
    """
    tenant = tenant_of(account).value
    if endpoint:
        _endpoint_body(endpoint)  # before anything is made

    def answer(given: str | None, question: str, default: str) -> str:
        if given is not None or ask_nothing:
            return default if given is None else given
        return str(typer.prompt(question, default=default, err=True))

    known = [*everything(http_url, "/api/messaging/instances", "instances")]
    if not known:
        raise Refused(
            "there is no messaging service instance",
            evidence="none has announced itself",
            fix='start a broker with [broker.instance] name = "…", or `meshwire instance add`; then try again',
        )
    _say("1 of 5: the account")
    if ask(http_url, "GET", f"/api/accounts/{tenant}").status == 404:
        call(http_url, "POST", "/api/accounts", {"id": tenant, "title": answer(title, "Title", "")})
    else:
        _say(f"{tenant} is there already")
    _say("2 of 5: who serves it")
    running = [each["name"] for each in known if each["state"] == "running"]
    name = answer(instance, f"Instance ({', '.join(each['name'] for each in known)})", [*running, known[0]["name"]][0])
    assigned = call(http_url, "GET", f"/api/accounts/{tenant}")
    if assigned["instance"] != name:
        assigned = call(http_url, "PUT", f"/api/accounts/{tenant}/assignment", {"instance": name})
    _say(f"3 of 5: connections; {name} offers {', '.join(assigned['options'])}")
    chosen = option or _options_in(answer(None, "Options, separated by blanks", " ".join(assigned["options"])))
    if set(chosen) != set(assigned["options"]):
        call(http_url, "PUT", f"/api/accounts/{tenant}/connection-settings", {"options": chosen})
    _say("4 of 5: the endpoint")
    there = [each["url"] for each in everything(http_url, f"/api/accounts/{tenant}/endpoints", "endpoints")]
    url = answer(endpoint, "URL", next(iter(_suitable([*there, *_listeners(known, name)], chosen)), ""))
    if url and url not in there:
        call(http_url, "POST", f"/api/accounts/{tenant}/endpoints", _endpoint_body(url))
    _say("5 of 5: credentials; the secret is shown this once")
    client = call(http_url, "POST", "/api/clients", {"tenant": tenant})
    typer.echo(json.dumps({"account": tenant, "instance": name, "options": chosen, "endpoint": url, **client}))
    if url:
        _say(_try_line(url, tenant))


def _options_in(text: str) -> list[Option]:
    try:
        return [Option(word) for word in text.split()]
    except ValueError as error:
        raise WrongInput("not a connection option", evidence=str(error), fix="choose of plain, tls, mutual") from None


def _listeners(instances: list[dict[str, Any]], name: str) -> list[str]:
    """URLs of the instance's listeners, as far as it tells; one that listens everywhere has this machine's name."""
    urls = []
    nodes = [node for each in instances if each["name"] == name for node in each["nodes"]]
    for listener in (each for node in nodes for each in node["listeners"]):
        host = socket.gethostname() if listener["host"] in ("", "0.0.0.0", "::") else listener["host"]
        if ":" not in host:  # an address of IPv6 is no domain name
            urls.append(f"{listener['kind']}://{host}:{listener['port']}")
    return urls


def _suitable(urls: list[str], options: Collection[Option]) -> list[str]:
    """Those that an account with these options may use, MQTT over TCP before WebSocket."""
    schemes = [
        *(["mqtt", "ws"] if Option.PLAIN in options else []),
        *(["mqtts", "wss"] if {Option.TLS, Option.MUTUAL} & set(options) else []),
    ]
    found = [url for url in urls if urllib.parse.urlsplit(url).scheme in schemes]
    return sorted(found, key=lambda url: url.startswith("ws"))


def _try_line(url: str, tenant: str) -> str:
    """How the account's readings are shown, for a shell."""
    parts = urllib.parse.urlsplit(url)
    token = f"meshwire token issue --tenant {shlex.quote(tenant)}"
    if parts.scheme in ("ws", "wss"):
        return f"Try {url} with a client that speaks WebSocket (mosquitto_sub does not), password from:\n{token}"
    tls = " --capath /etc/ssl/certs" if parts.scheme == "mqtts" else ""
    place = f"-h {parts.hostname} -p {parts.port}{tls}"
    return f"Try it with:\nmosquitto_sub {place} -V 5 -u notused -P \"$({token})\" -t '{tenant}/read/#' -v"


def _say(line: str) -> None:
    typer.echo(line, err=True)


# --- instances


@instance_app.command("list")
def list_instances(http_url: HttpOption = DEFAULT_HTTP, as_json: JsonOption = False) -> None:
    """All instances; a broker with an instance name appears by itself when it has started."""
    for instance in [*everything(http_url, "/api/messaging/instances", "instances")]:
        if as_json:
            typer.echo(json.dumps(instance))
            continue
        nodes = ", ".join(f"{node['node']} ({node['clients']} clients)" for node in instance["nodes"])
        options, accounts = ", ".join(instance["options"]), " ".join(instance["accounts"]) or "-"
        line = (
            f"{instance['name']:<16}  {instance['engine']:<10}  {instance['state']:<8}  {options}  {accounts}  {nodes}"
        )
        typer.echo(line.rstrip())


@instance_app.command("describe")
def describe_instance(name: NameArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """One instance with its nodes, as JSON."""
    typer.echo(json.dumps(call(http_url, "GET", _instance(name)), indent=2))


@instance_app.command("add")
def add_instance(
    name: NameArgument,
    engine: Annotated[str, typer.Option("--engine", help="mosquitto, rabbitmq, …")],
    title: Annotated[str, typer.Option("--title", help="a name for people")] = "",
    tls: Annotated[bool, typer.Option("--tls", help="TLS is enabled and configured on it")] = False,
    mutual: Annotated[bool, typer.Option("--mutual", help="it asks clients for certificates")] = False,
    option: OptionOption = None,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Make an instance known that does not announce itself."""
    body = {"name": name, "engine": engine, "title": title, "tls": tls, "mutual": mutual}
    typer.echo(json.dumps(call(http_url, "POST", "/api/messaging/instances", body | _options(option))))


@instance_app.command("set")
def set_instance(
    name: NameArgument,
    title: Annotated[str | None, typer.Option("--title", help="a name for people")] = None,
    tls: Annotated[bool | None, typer.Option("--tls/--no-tls", help="TLS is enabled and configured on it")] = None,
    mutual: Annotated[bool | None, typer.Option("--mutual/--no-mutual", help="it asks for certificates")] = None,
    option: OptionOption = None,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Change what an instance offers to its accounts; secure options need TLS configured on it."""
    named = (("title", title), ("tls", tls), ("mutual", mutual))
    body = {key: value for key, value in named if value is not None} | _options(option)
    if not body:
        raise WrongInput("nothing to change", evidence="no option", fix="name --option, --title, --tls or --mutual")
    typer.echo(json.dumps(call(http_url, "PATCH", _instance(name), body)))


@instance_app.command("remove")
def remove_instance(name: NameArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """Forget an instance to which no account is assigned; one that still runs appears again."""
    call(http_url, "DELETE", _instance(name))


# --- endpoints


@endpoint_app.command("list")
def list_endpoints(
    account: Annotated[str | None, typer.Option("--account", "-A", help="what this account's clients use")] = None,
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """All endpoints, or those that an account's clients use."""
    path = "/api/endpoints" if account is None else f"{_account(account)}/endpoints"
    for endpoint in everything(http_url, path, "endpoints"):
        typer.echo(
            json.dumps(endpoint) if as_json else f"{endpoint['id']}  {endpoint['account']:<16}  {endpoint['url']}"
        )


@endpoint_app.command("add")
def add_endpoint(
    account: IdArgument,
    url: Annotated[str, typer.Argument(help="such as mqtts://broker.example.net:8883")],
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Add an endpoint to an account; schema mqtt, mqtts, ws or wss (mqtts and wss are the secure ones)."""
    typer.echo(json.dumps(call(http_url, "POST", f"{_account(account)}/endpoints", _endpoint_body(url))))


@endpoint_app.command("set")
def set_endpoint(
    endpoint: EndpointArgument,
    url: Annotated[str, typer.Argument(help="such as mqtts://broker.example.net:8883")],
    confirmed: ConfirmOption = False,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Change an endpoint. When it is in use, that is refused with a list of uses, unless --yes."""
    path = quoted(f"/api/endpoints/{_segment(endpoint)}", confirm="true" if confirmed else None)
    typer.echo(json.dumps(_unless_in_use(http_url, "PATCH", path, _endpoint_body(url))))


@endpoint_app.command("remove")
def remove_endpoint(
    endpoint: EndpointArgument, confirmed: ConfirmOption = False, http_url: HttpOption = DEFAULT_HTTP
) -> None:
    """Delete an endpoint. When it is in use, that is refused with a list of uses, unless --yes."""
    path = quoted(f"/api/endpoints/{_segment(endpoint)}", confirm="true" if confirmed else None)
    _unless_in_use(http_url, "DELETE", path)


@endpoint_app.command("publish")
def publish_endpoint(
    endpoint: EndpointArgument,
    address: Annotated[str | None, typer.Option("--address", help="IP address or name of the broker")] = None,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """How to make an endpoint reachable: DNS records for a name server."""
    path = quoted(f"/api/endpoints/{_segment(endpoint)}/publishing", address=address)
    records = call(http_url, "GET", path)["records"]
    for record in records:
        typer.echo(record)
    if not records:
        typer.echo("the endpoint is an address, which needs no name server", err=True)


@endpoint_app.command("check")
def check_endpoint(
    endpoint: EndpointArgument, http_url: HttpOption = DEFAULT_HTTP, as_json: JsonOption = False
) -> None:
    """Try an endpoint from the gateway's machine: name, connection, certificate, MQTT. Exit code 1: a step failed."""
    answer = call(http_url, "POST", f"/api/endpoints/{_segment(endpoint)}/check")
    for step in answer["steps"]:
        if as_json:
            typer.echo(json.dumps(step))
        else:
            fix = f"; do: {step['fix']}" if step["fix"] else ""
            typer.echo(f"{'ok  ' if step['ok'] else 'FAIL'}  {step['step']:<11}  {step['seen']}{fix}")
    if not answer["ok"]:
        raise typer.Exit(1)


def _unless_in_use(http_url: str, method: str, path: str, body: object = None) -> Any:
    answer = ask(http_url, method, path, body)
    if answer.status == 409 and answer.body.get("errors"):
        uses = "; ".join(use["detail"] for use in answer.body["errors"])
        fix = "give --yes to do it all the same"
        raise Refused("the endpoint is in use", evidence=uses, fix=fix, code=answer.body["code"])
    return expect(answer, f"{method} {path}").body


def _endpoint_body(url: str) -> dict[str, object]:
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WrongInput("not an endpoint", evidence=f"{url}: {error}", fix="write SCHEMA://DOMAIN:PORT") from None
    if parts.scheme not in ("mqtt", "mqtts", "ws", "wss") or not parts.hostname or port is None:
        raise WrongInput("not an endpoint", evidence=url, fix="write SCHEMA://DOMAIN:PORT; schema mqtt, mqtts, ws, wss")
    is_secure = parts.scheme in ("mqtts", "wss")
    return {"schema": parts.scheme, "domain": parts.hostname, "port": port, "secure": is_secure}


def _options(option: list[Option] | None) -> dict[str, object]:
    return {} if option is None else {"options": option}


def _segment(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _account(id: str) -> str:
    return f"/api/accounts/{_segment(id)}"


def _instance(name: str) -> str:
    return f"/api/messaging/instances/{_segment(name)}"
