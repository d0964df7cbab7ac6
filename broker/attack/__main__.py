"""`meshwire tenant attack`: the isolation proof, against a broker of our own or against a running site."""

import asyncio
import json
import os
import shlex
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from broker.adapters.connection import BrokerAddress
from broker.attack.arena import RefusedLogin
from broker.attack.embedded import embedded_target
from broker.attack.errors import AttackError, LoginsUnfit, TargetUnreachable
from broker.attack.external import mosquitto_target, rabbitmq_target
from broker.attack.proof import Proof, Verdict
from broker.attack.suite import ATTACKS, attack_all, breaches
from broker.attack.target import IssueToken, Party, Target, fixed_login
from broker.attack.tokens import sign_claims
from meshwire.cli import main
from meshwire.errors import ExitCode
from meshwire.mqtt import ProtocolVersion
from meshwire.tokens import SigningKeys

__all__ = ["app", "attack"]

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Tenants, and the proof that they are kept apart.")

STYLES = {Verdict.HELD: "green", Verdict.BREACH: "bold red", Verdict.LIMIT: "yellow", Verdict.SKIPPED: "dim"}
Starter = Callable[[Path], AbstractAsyncContextManager[Target]]
STARTERS: dict[str, Starter] = {
    "embedded": embedded_target,
    "mosquitto": mosquitto_target,
    "rabbitmq": rabbitmq_target,
}
SecretFile = Annotated[Path | None, typer.Option(help="File whose first line is the password or token.")]


@app.callback()
def group() -> None:
    """Tenants, and the proof that they are kept apart."""


@app.command()
def attack(
    host: Annotated[str, typer.Option(help="Broker; none: one of our own is started for the occasion.")] = "",
    start: Annotated[
        str, typer.Option(help="Without --host: what to start: embedded, mosquitto or rabbitmq.")
    ] = "embedded",
    port: Annotated[int, typer.Option(help="Its MQTT port.")] = 1883,
    cafile: Annotated[Path | None, typer.Option(help="CA certificates; given, TLS is used.")] = None,
    mqtt: Annotated[str, typer.Option(help="Newest version that the broker speaks: 5 or 3.1.1.")] = "5",
    tenant: Annotated[str, typer.Option(help="Tenant A, who attacks.")] = "",
    user: Annotated[str, typer.Option(help="User name of A.")] = "notused",
    secret_file: SecretFile = None,
    victim_tenant: Annotated[str, typer.Option(help="Tenant B.")] = "",
    victim_user: Annotated[str, typer.Option(help="User name of B.")] = "notused",
    victim_secret_file: SecretFile = None,
    service_user: Annotated[str, typer.Option(help="User that publishes readings of both (role GATEWAY).")] = "gateway",
    service_secret_file: SecretFile = None,
    service_port: Annotated[int | None, typer.Option(help="Its port, if it has one of its own.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="A valid token of A, to be tampered with.")] = None,
    jwks: Annotated[Path | None, typer.Option(help="The site's public key set, for forgeries.")] = None,
    signing_key: Annotated[Path | None, typer.Option(help="The site's private key: tokens that have ended.")] = None,
    revoke_command: Annotated[str, typer.Option(help="Command that takes A's rights away.")] = "",
    only: Annotated[list[str] | None, typer.Option(help="One attack; may stand several times.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """As one tenant, try everything to see or touch another one's data. Exit code 0: nothing succeeded."""
    unknown = set(only or ()) - {one.name for one in ATTACKS}
    if unknown:
        raise typer.BadParameter(f"no such attack: {', '.join(sorted(unknown))}")
    names, version = tuple(only or ()), _version(mqtt)
    if not host:
        if start not in STARTERS:
            raise typer.BadParameter(f"--start is one of {', '.join(STARTERS)}")
        proofs = asyncio.run(_attack_started(STARTERS[start], names, as_json))
    else:
        if not (tenant and secret_file and victim_tenant and victim_secret_file):
            raise typer.BadParameter("--host needs --tenant, --secret-file, --victim-tenant and --victim-secret-file")
        place = BrokerAddress(host, port, ssl.create_default_context(cafile=cafile) if cafile else None)
        service = None
        if service_secret_file is not None:
            own = None if service_port is None else BrokerAddress(host, service_port, place.tls)
            service = Party("ssni", fixed_login(service_user, _first_line(service_secret_file)), own)
        target = Target(
            name=str(place),
            address=place,
            version=version,
            attacker=Party(tenant, fixed_login(user, _first_line(secret_file))),
            victim=Party(victim_tenant, fixed_login(victim_user, _first_line(victim_secret_file))),
            service=service,
            token=None if token_file is None else _first_line(token_file),
            jwks=None if jwks is None else _read(jwks),
            issue=None if signing_key is None else _issuer(signing_key),
            revoke=_runner(revoke_command) if revoke_command else None,
        )
        proofs = asyncio.run(_attack(target, names, as_json))
    if not as_json:
        _print(proofs)
    if breaches(proofs):
        raise typer.Exit(ExitCode.FAILURE)


async def _attack_started(start: Starter, only: tuple[str, ...], as_json: bool) -> list[Proof]:
    with tempfile.TemporaryDirectory(prefix="meshwire-attack-") as folder:
        async with start(Path(folder)) as target:
            return await _attack(target, only, as_json)


async def _attack(target: Target, only: tuple[str, ...], as_json: bool) -> list[Proof]:
    try:
        return await attack_all(target, only=only, tell=_tell_json if as_json else _tell_progress)
    except RefusedLogin as error:
        raise LoginsUnfit("a login of the proof does not hold", evidence=str(error)) from None
    except (OSError, TimeoutError) as error:
        raise TargetUnreachable("broker can't be reached", evidence=f"{target.address}: {error}") from None


def _tell_json(proof: Proof) -> None:
    line = {
        "attack": proof.attack,
        "title": proof.title,
        "tries": proof.tries,
        "verdict": proof.verdict.value,
        "evidence": proof.evidence,
    }
    typer.echo(json.dumps(line))
    sys.stdout.flush()


def _tell_progress(proof: Proof) -> None:
    typer.echo(f"{proof.attack}: {proof.verdict.value}", err=True)


def _print(proofs: list[Proof]) -> None:
    table = Table("attack", "what is tried", "tries", "outcome", "evidence")
    for proof in proofs:
        style = "" if os.environ.get("NO_COLOR") else STYLES[proof.verdict]
        outcome = f"[{style}]{proof.verdict.value}[/]" if style else proof.verdict.value
        table.add_row(proof.attack, proof.title, str(proof.tries), outcome, proof.evidence)
    Console().print(table)
    tries, won = sum(proof.tries for proof in proofs), len(breaches(proofs))
    typer.echo(f"{len(proofs)} attacks, {tries} tries, {won} succeeded", err=True)


def _version(text: str) -> ProtocolVersion:
    known = {"5": ProtocolVersion.V5, "3.1.1": ProtocolVersion.V3_1_1}
    if text not in known:
        raise typer.BadParameter("--mqtt is 5 or 3.1.1")
    return known[text]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise AttackError("file can't be read", evidence=f"{path}: {error}") from None


def _first_line(path: Path) -> str:
    lines = _read(path).splitlines()
    if not lines:
        raise AttackError("file is empty", evidence=str(path))
    return lines[0]


def _issuer(path: Path) -> IssueToken:
    try:
        keys = SigningKeys.load(path)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AttackError("signing key can't be read", evidence=f"{path}: {error}") from None
    return lambda tenant, roles, life_s: sign_claims(keys, tenant, roles, life_s, time.time())


def _runner(command: str) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        process = await asyncio.create_subprocess_exec(*shlex.split(command), stdout=asyncio.subprocess.DEVNULL)
        if await process.wait() != 0:
            raise AttackError("the revoking command failed", evidence=f"exit code {process.returncode}")

    return run


if __name__ == "__main__":
    sys.exit(main(["tenant", *sys.argv[1:]]))
