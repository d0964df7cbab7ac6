"""`meshwire instance`: what each broker can do, whether a configuration suits it, its files, and trial nodes."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from broker.adapters.capabilities import CAPABILITIES, Engine, Feature
from broker.adapters.capabilities import check as check_configuration
from broker.adapters.generation import EVERYWHERE, GENERATORS, Facts, generate, passwords_json, with_new_passwords
from broker.adapters.rabbitmq.load import read_load
from broker.adapters.rabbitmq.nodes import SMALLEST_CLUSTER, PrivateCluster
from broker.adapters.rabbitmq.scaling import (
    LARGEST_CLUSTER,
    Capacity,
    Load,
    ask_for_size,
    wanted_nodes,
)
from broker.adapters.rabbitmq.tls import TlsFiles, tls_of_listeners
from broker.adapters.rabbitmq.trial import serve_announced
from broker.addresses.book import AddressBook
from broker.certificates import TrialAuthority
from broker.credentials import UsersFile
from broker.role_table import RoleTable
from broker.settings import BrokerSettings, InstanceSettings
from meshwire.cli import main
from meshwire.config import load_config, read_settings
from meshwire.site import Site

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Messaging engines: ours, and those of others.",
    epilog="Instances: `meshwire instance list|add|describe|set|remove`.",
)

LOOPBACK: Final = "127.0.0.1"
TRIAL_HOSTS: Final = ("localhost", LOOPBACK, "::1")

Config = Annotated[Path | None, typer.Option("--config", envvar="MESHWIRE_CONFIG", help="Configuration (TOML).")]


@app.command()
def show(
    engine: Annotated[list[Engine] | None, typer.Option(help="Only this one; may stand several times.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """What each broker can do, and how we know."""
    chosen = engine or list(Engine)
    if as_json:
        for one in chosen:
            for feature, cell in CAPABILITIES[one].items():
                line = {"engine": one.value, "feature": feature.value, "can": cell.can}
                typer.echo(json.dumps(line | {"how": cell.how, "source": cell.source.value}))
        return
    table = Table("feature", *(one.value for one in chosen), title="tested here: *; the rest is documentation")
    for feature in Feature:
        cells = [CAPABILITIES[one][feature] for one in chosen]
        table.add_row(feature.value, *(f"{cell}{'*' if cell.source.value == 'tested' else ''}" for cell in cells))
    Console(no_color="NO_COLOR" in os.environ).print(table)


@app.command()
def check(engine: Engine, config: Config = None) -> None:
    """Whether a broker can honour the configuration; exit code 3 and the reasons when not."""
    check_configuration(engine, load_config(config))
    typer.echo(f"{engine.value} can honour the configuration")


@app.command("generate")
def write_files(
    engine: Annotated[str, typer.Argument(help=", ".join(GENERATORS))],
    directory: Annotated[Path, typer.Option(help="Where the files go; it is made.")] = Path(),
    authority: Annotated[str, typer.Option(help="HOST:PORT of the authority, for the broker.")] = "127.0.0.1:8099",
    amqp: Annotated[
        bool, typer.Option("--amqp", help="RabbitMQ: AMQP 1.0 as well, with the site's addresses.")
    ] = False,
    certificate: Annotated[
        Path | None,
        typer.Option(help="RabbitMQ: TLS as well, with this PEM file. Default: that of the first TLS listener."),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Of --certificate; default: it is in that file.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(help="With --certificate: every client has to show a certificate signed by these.")
    ] = None,
    plain_host: Annotated[
        str | None,
        typer.Option(help="RabbitMQ: where it listens without TLS. Default: 127.0.0.1 with TLS, else everywhere."),
    ] = None,
    config: Config = None,
) -> None:
    """Write a broker's files. They hold secrets and get mode 0600."""
    if engine not in GENERATORS:
        raise typer.BadParameter(f"no such engine; there are {', '.join(GENERATORS)}")
    if certificate is None and (key is not None or client_ca is not None):
        raise typer.BadParameter("--key and --client-ca need --certificate")
    if engine != "rabbitmq" and (certificate is not None or plain_host is not None):
        raise typer.BadParameter(f"--certificate and --plain-host are for rabbitmq; {engine}'s files have no TLS")
    site = Site.default()
    settings = read_settings(BrokerSettings, "broker", load_config(config))
    listed = UsersFile(settings.users_file or site.path("broker", "users.json")).listing()
    users = with_new_passwords(listed, site.secret("gateway-mqtt"))
    host, _, port = authority.rpartition(":")
    control = ("meshwire-control", site.secret("mosquitto-control"))
    book = AddressBook(settings.addresses_file or site.path("broker", "addresses.json"))
    tls = TlsFiles.read(certificate, key, client_ca) if certificate is not None else None
    if engine == "rabbitmq" and tls is None:
        tls = tls_of_listeners(settings.listener)
    facts = Facts(
        site.secret("broker-authority"),
        host,
        int(port),
        users,
        control,
        amqp=amqp,
        addresses=tuple(book) if amqp else (),
        tls=tls,
        plain_host=plain_host or (LOOPBACK if tls is not None else EVERYWHERE),
        rules=RoleTable(settings.roles_file or site.path("broker", "roles.json")).rules,
    )
    files = generate(engine, facts)
    if engine in ("mosquitto", "hivemq"):
        files["passwords.json"] = passwords_json(users)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in files.items():
        path = directory / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        typer.echo(str(path))


@app.command()
def trial(
    nodes: Annotated[int, typer.Option(min=1, max=7, help="How many RabbitMQ nodes.")] = 3,
    authority: Annotated[str, typer.Option(help="HOST:PORT of a running authority.")] = "127.0.0.1:8099",
    directory: Annotated[Path | None, typer.Option(help="Keep the nodes' files here.")] = None,
    amqp: Annotated[bool, typer.Option("--amqp", help="AMQP 1.0 as well, with the site's addresses.")] = False,
    certs: Annotated[
        Path | None, typer.Option(help="TLS as well, by the authority of `meshwire cert make --dir`; made when absent.")
    ] = None,
    mutual: Annotated[
        bool, typer.Option("--mutual", help="With --certs: every client has to show a certificate of that authority.")
    ] = False,
    instance: Annotated[
        str, typer.Option(help="Name in the list of instances: [broker.instance] of the authority's configuration.")
    ] = "trial",
) -> None:
    """Run RabbitMQ nodes on this machine until interrupted: own folders, free ports, no service touched."""
    if mutual and certs is None:
        raise typer.BadParameter("--mutual needs --certs")
    tls = None if certs is None else _trial_tls(certs, mutual)
    site, name = Site.default(), _instance_name(instance)
    url = f"http://{authority}/{site.secret('broker-authority')}"
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stopped.set())
    with tempfile.TemporaryDirectory(prefix="meshwire-rabbitmq-") as made:
        addresses = tuple(AddressBook(site.path("broker", "addresses.json"))) if amqp else ()
        cluster = PrivateCluster(directory or Path(made), url, nodes, amqp=amqp, addresses=addresses, tls=tls)
        cluster.start()
        try:
            for node in cluster.nodes:
                typer.echo(json.dumps({"node": node.name} | node.ports()))
            sys.stdout.flush()
            asyncio.run(serve_announced(cluster, name, cluster.release(), site, stopped.wait))
        finally:
            cluster.stop()


def _trial_tls(folder: Path, mutual: bool) -> TlsFiles:
    authority = TrialAuthority.in_folder(folder)
    certificate, key = authority.server(TRIAL_HOSTS, file="rabbitmq-trial")
    return TlsFiles.read(certificate, key, folder / "ca.crt" if mutual else None)


@app.command()
def scale(
    nodes: Annotated[int, typer.Argument(min=SMALLEST_CLUSTER, max=LARGEST_CLUSTER, help="How many there shall be.")],
    directory: Annotated[Path, typer.Option(help="The folder that `instance trial` was given.")],
    timeout: Annotated[float, typer.Option(min=1.0, help="Longest wait in seconds.")] = 300.0,
) -> None:
    """Give a running RabbitMQ cluster on this machine more or fewer nodes; nothing acknowledged is lost meanwhile."""
    for node in ask_for_size(directory, nodes, timeout):
        line = {"node": node["name"], "mqtt": node["mqtt_port"], "ws": node["web_mqtt_port"]}
        typer.echo(json.dumps(line))


@app.command()
def advise(
    nodes: Annotated[int | None, typer.Argument(min=1, help="How many there are.")] = None,
    messages_per_s: Annotated[
        float | None, typer.Option(min=0.0, help="Published and delivered, of the whole cluster.")
    ] = None,
    connections: Annotated[int | None, typer.Option(min=0, help="Of the whole cluster.")] = None,
    memory: Annotated[float, typer.Option(min=0.0, help="Of the fullest node, as a part of its high watermark.")] = 0.0,
    management: Annotated[
        str | None, typer.Option(help="URL of RabbitMQ's management plugin: nodes and load are asked there.")
    ] = None,
    username: Annotated[str, typer.Option(help="For --management: a user with the tag monitoring.")] = "meshwire",
    password_file: Annotated[Path | None, typer.Option(help="For --management.")] = None,
    node_messages_per_s: Annotated[float, typer.Option(min=1.0, help="What one node carries.")] = 5_000.0,
    node_connections: Annotated[int, typer.Option(min=1, help="What one node carries.")] = 10_000,
) -> None:
    """How many nodes a cluster with this load should have: prints the number, for a person or an autoscaler."""
    if management is not None:
        if password_file is None:
            raise typer.BadParameter("--management needs --password-file")
        load, nodes = read_load(management, username, password_file.read_text().strip())
    elif nodes is None or messages_per_s is None or connections is None:
        raise typer.BadParameter("give --management, or NODES, --messages-per-s and --connections")
    else:
        load = Load(messages_per_s, connections, memory)
    typer.echo(str(wanted_nodes(load, nodes, Capacity(node_messages_per_s, node_connections))))


def _instance_name(text: str) -> str:
    try:
        return InstanceSettings(name=text).name
    except ValidationError:
        raise typer.BadParameter(f"{text!r} is no name of an instance", param_hint="--instance") from None


if __name__ == "__main__":
    sys.exit(main(["instance", *sys.argv[1:]]))
