"""The isolation proof against our own broker, and the proof that the proof can fail."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from typer.testing import CliRunner

from broker import handshake
from broker.attack.__main__ import app
from broker.attack.arena import RefusedLogin
from broker.attack.embedded import PASSWORD, embedded_target
from broker.attack.proof import Proof, Verdict
from broker.attack.suite import ATTACKS, attack_all
from broker.attack.target import Party, fixed_login
from broker.outlet import SessionKey
from meshwire.identity import LoginKind
from meshwire.mqtt import ProtocolVersion
from meshwire.tokens import VerifyingKeys

NAMES = [attack.name for attack in ATTACKS]


def outcome(proofs: list[Proof]) -> dict[str, Verdict]:
    return {proof.attack: proof.verdict for proof in proofs}


@pytest.mark.parametrize("version", [ProtocolVersion.V5, ProtocolVersion.V3_1_1])
@pytest.mark.parametrize("kind", [LoginKind.PASSWORD, LoginKind.TOKEN])
async def test_no_attack_succeeds(tmp_path: Path, kind: LoginKind, version: ProtocolVersion) -> None:
    names = [name for name in NAMES if name != "revocation-live" or kind is LoginKind.PASSWORD]
    if (kind, version) != (LoginKind.PASSWORD, ProtocolVersion.V5):
        names = [name for name in names if not name.startswith(("token", "expiry", "revocation"))]
    async with embedded_target(tmp_path, kind=kind, version=version) as target:
        proofs = await attack_all(target, only=names)
    not_held = [proof for proof in proofs if proof.verdict is not Verdict.HELD]
    needs_mqtt_5 = {"response-topic", "topic-alias"} if version is ProtocolVersion.V3_1_1 else set()
    assert {proof.attack for proof in not_held} == needs_mqtt_5, not_held
    assert sum(proof.tries for proof in proofs) > 80


async def test_an_attacker_with_all_rights_succeeds_so_the_attacks_see_what_they_look_for(tmp_path: Path) -> None:
    names = ["exact-filters", "wildcards", "shared", "retained", "system-topics", "publish", "will"]
    names += ["retained-plant", "topic-alias", "long-topics", "response-topic"]
    async with embedded_target(tmp_path, attacker_roles=("ADMIN",)) as target:
        proofs = await attack_all(target, only=names)
    assert outcome(proofs) == dict.fromkeys(names, Verdict.BREACH) | {"response-topic": Verdict.HELD}


async def test_a_broker_with_common_client_ids_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def common(packet: Any, principal: Any) -> SessionKey:
        return SessionKey("common", LoginKind.PASSWORD, packet.client_id)

    monkeypatch.setattr(handshake, "session_key", common)
    async with embedded_target(tmp_path) as target:
        proofs = await attack_all(target, only=["take-over", "session-theft"])
    assert outcome(proofs) == dict.fromkeys(("take-over", "session-theft"), Verdict.BREACH)


async def test_a_broker_that_does_not_verify_tokens_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unverified(keys: VerifyingKeys, token: str) -> Any:
        return next(iter(keys.keys)), jwt.decode(token, options={"verify_signature": False})

    monkeypatch.setattr(VerifyingKeys, "_claims", unverified)
    names = ["token-unsigned", "token-public-key", "token-kid"]
    async with embedded_target(tmp_path) as target:
        assert outcome(await attack_all(target, only=names)) == dict.fromkeys(names, Verdict.BREACH)


async def test_logins_that_do_not_hold_are_no_proof(tmp_path: Path) -> None:
    async with embedded_target(tmp_path) as target:
        unfit = replace(target, attacker=Party(target.attacker.tenant, fixed_login("attacker", "wrong")))
        with pytest.raises(RefusedLogin):
            await attack_all(unfit, only=["wildcards"])


def test_the_command_prints_a_line_for_each_attack_and_exits_by_the_outcome() -> None:
    done = CliRunner().invoke(app, ["attack", "--json", "--only", "exact-filters", "--only", "will"])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [(line["attack"], line["verdict"]) for line in lines] == [("exact-filters", "held"), ("will", "held")]


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--start", "x"], ["--host", "h"], ["--mqtt", "4"]])
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["attack", *arguments]).exit_code == 2


async def test_the_command_attacks_a_running_broker(tmp_path: Path) -> None:
    async with embedded_target(tmp_path / "site") as target:
        secret = tmp_path / "secret"
        secret.write_text(PASSWORD)
        arguments = ["attack", "--host", "127.0.0.1", "--port", str(target.address.port), "--json"]
        arguments += ["--tenant", target.attacker.tenant, "--user", "attacker", "--secret-file", str(secret)]
        arguments += ["--victim-tenant", target.victim.tenant, "--victim-user", "victim"]
        arguments += ["--victim-secret-file", str(secret), "--service-secret-file", str(secret)]
        for name in ("wildcards", "take-over", "token-unsigned"):
            arguments += ["--only", name]
        done = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert [line["verdict"] for line in lines] == ["held", "held", "skipped"]
        (tmp_path / "wrong").write_text("wrong")
        arguments[arguments.index("--secret-file") + 1] = str(tmp_path / "wrong")
        done = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        assert "MW-ATK-002" in str(done.exception)
