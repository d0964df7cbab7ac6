"""The doctor looks at the configured broker: each thing that may be wrong there, seen with what to do."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from embedded_broker import embedded_broker
from free_ports import free_port
from typer.testing import CliRunner

from broker.certificates import TrialAuthority
from broker.settings import ListenerSettings
from gateway.tools.broker_check import broker_findings
from meshwire import doctor
from meshwire.doctor import Finding
from meshwire.identity import INTERNAL_TENANT
from meshwire.site import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path / "state"))
    return Site.default()


@pytest.fixture
def authority(tmp_path: Path) -> TrialAuthority:
    return TrialAuthority.in_folder(tmp_path / "certs")


def configured(folder: Path, port: int, **tls: Any) -> Path:
    lines = ["[gateway.bridge]", f"port = {port}"]
    if tls:
        lines += ["[gateway.bridge.tls]", "enabled = true"]
        lines += [f"{key} = {json.dumps(str(value))}" for key, value in tls.items()]
    path = folder / "meshwire.toml"
    path.write_text("\n".join(lines))
    return path


async def looked_at(config: Path | None) -> list[Finding]:
    return await asyncio.to_thread(broker_findings, config)


def secure(authority: TrialAuthority, **more: Any) -> ListenerSettings:
    files = {"certificate_file": authority.folder / "server.crt", "key_file": authority.folder / "server.key"}
    return ListenerSettings(kind="mqtts", port=0, **files, **more)


async def test_a_site_without_a_broker_has_nothing_to_check(site: Site, tmp_path: Path) -> None:
    (nothing,) = await looked_at(None)
    assert nothing.ok and "none is configured" in nothing.evidence
    assert not site.state_dir.exists(), "looking makes nothing"
    (tmp_path / "off.toml").write_text("[gateway.bridge]\nenabled = false")
    (off,) = await looked_at(tmp_path / "off.toml")
    assert off.ok and "not used" in off.evidence
    (tmp_path / "wrong.toml").write_text("[gateway.bridge]\nprot = 1")
    (wrong,) = await looked_at(tmp_path / "wrong.toml")
    assert not wrong.ok and "gateway.bridge.prot" in wrong.evidence


async def test_a_broker_is_reached_and_lets_the_gateway_in(site: Site, tmp_path: Path) -> None:
    async with embedded_broker(site) as broker:
        reached, login = await looked_at(configured(tmp_path, broker.ports[0]))
        assert reached.ok and login.ok and login.evidence.startswith("accepted, MQTT 5"), login
        (site.state_dir / "secrets" / "gateway-mqtt").write_text("another password")
        _, login = await looked_at(configured(tmp_path, broker.ports[0]))
        assert not login.ok and "refused" in login.evidence and "another password" not in login.evidence
    (away,) = await looked_at(configured(tmp_path, free_port()))
    assert not away.ok and "start the broker" in away.fix


@pytest.mark.parametrize(
    ("days", "ca", "host", "ok", "words"),
    [
        (365, "ca.crt", "127.0.0.1", True, "valid until"),
        (5, "ca.crt", "127.0.0.1", False, "valid until"),
        (365, "other", "127.0.0.1", False, "MW-TLS-002"),
        (365, "ca.crt", "broker.example", False, "MW-TLS-003"),
        (0, "ca.crt", "127.0.0.1", False, "MW-TLS-004"),
    ],
)
async def test_the_brokers_certificate_is_judged(
    days: int, ca: str, host: str, ok: bool, words: str, site: Site, tmp_path: Path, authority: TrialAuthority
) -> None:
    authority.server((host,), days=days)
    other = TrialAuthority.in_folder(tmp_path / "other").folder / "ca.crt"
    async with embedded_broker(site, listener=(secure(authority),)) as broker:
        ca_file = other if ca == "other" else authority.folder / ca
        found = await looked_at(configured(tmp_path, broker.ports[0], ca_file=ca_file))
    certificate = found[1]
    assert (certificate.check, certificate.ok) == ("broker's certificate", ok) and words in certificate.evidence
    assert certificate.fix and len(found) == (3 if "valid" in words else 2)
    assert all(each.ok for each in found[2:])


async def test_the_gateways_own_certificate_is_judged(site: Site, tmp_path: Path, authority: TrialAuthority) -> None:
    folder = authority.folder
    authority.server(("127.0.0.1",))
    authority.client("gateway", INTERNAL_TENANT, days=5, file="gateway")
    mutual = {"client_ca_file": folder / "ca.crt", "enable_client_cert_validation": True}
    async with embedded_broker(site, listener=(secure(authority, **mutual),)) as broker:
        own = {"certificate_file": folder / "gateway.crt", "key_file": folder / "gateway.key"}
        _, certificate, mine, login = await looked_at(
            configured(tmp_path, broker.ports[0], ca_file=folder / "ca.crt", **own)
        )
        assert certificate.ok and login.ok and not mine.ok and "new one signed" in mine.fix
        *_, login = await looked_at(configured(tmp_path, broker.ports[0], ca_file=folder / "ca.crt"))
        assert not login.ok and "client certificate" in login.evidence


def test_the_doctor_tells_of_the_broker(site: Site, tmp_path: Path) -> None:
    done = CliRunner().invoke(doctor.app, ["--config", str(configured(tmp_path, free_port())), "--json"])
    told = [json.loads(line) for line in done.output.splitlines()]
    assert done.exit_code == 1 and (told[-1]["check"], told[-1]["ok"]) == ("broker", False)
