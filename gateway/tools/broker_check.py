"""The broker of `[gateway.bridge]` as `meshwire doctor` looks at it: reached → its certificate → the gateway's login.

The first step that fails says what was seen and what to do; the others are not tried. Nothing is published, and no
secret is made: a site that has none yet, and whose configuration names no broker, has nothing to check.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.aliases.errors import StoreFileError
from gateway.aliases.keystore import read_truststore
from gateway.broker_tls.errors import BrokerTlsError
from gateway.broker_tls.tls import BrokerTls, tls_of
from gateway.lane import BROKER_SECRET, login
from gateway.mqtt import ConnectFailure, Connection, Login, MqttVersion
from gateway.settings import BridgeSettings, GatewaySettings
from meshwire.config import load_config, read_settings
from meshwire.doctor import Finding
from meshwire.errors import MeshwireError
from meshwire.site import Site

__all__ = ["broker_findings"]

PATIENCE_S: Final = 5.0
SOON_S: Final = 14 * 86_400.0
"""A certificate that ends within this time is to be renewed."""
REACHED, CERTIFICATE, LOGIN = "broker", "broker's certificate", "broker login"


def broker_findings(config: Path | None) -> list[Finding]:
    """What there is to say; never raises for what a site may have wrong."""
    site = Site.default()
    try:
        tree = load_config(config)
        bridge = read_settings(GatewaySettings, "gateway", tree).bridge
    except MeshwireError as error:
        return [Finding("configuration", False, f"{error.what}: {error.evidence}", error.fix)]
    section = tree.get("gateway")
    named = isinstance(section, Mapping) and "bridge" in section
    if not bridge.enabled:
        return [Finding(REACHED, True, "not used: gateway.bridge.enabled = false")]
    if not named and not (site.state_dir / "secrets" / BROKER_SECRET).is_file():
        return [Finding(REACHED, True, "none is configured, and no gateway has run on this site yet")]

    async def collect() -> list[Finding]:
        return [each async for each in _findings(bridge, site)]

    return asyncio.run(collect())


async def _findings(bridge: BridgeSettings, site: Site) -> AsyncIterator[Finding]:
    reached = await _reached(bridge)
    yield reached
    if not reached.ok:
        return
    tls = tls_of(bridge.host, bridge.port, bridge.tls)
    if tls is not None:
        shown = await _shake_hands(tls)
        if isinstance(shown, Finding):
            yield shown
            return
        yield shown.finding(CERTIFICATE, "renew it at the broker")
        if bridge.tls.certificate_file is not None:
            yield _own_certificate(bridge.tls.certificate_file)
    yield await _login(bridge, site)


async def _reached(bridge: BridgeSettings) -> Finding:
    place = f"{bridge.scheme}://{bridge.host}:{bridge.port}"
    try:
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection(bridge.host, bridge.port)
    except (OSError, TimeoutError) as error:
        reason = f"no answer within {PATIENCE_S:g} s" if isinstance(error, TimeoutError) else str(error)
        fix = "start the broker there (ours: `meshwire broker`), or correct gateway.bridge.host and port"
        return Finding(REACHED, False, f"{place}: {reason}", fix)
    writer.close()
    return Finding(REACHED, True, f"{place} answers")


@dataclass(frozen=True, slots=True)
class _Certificate:
    """One that holds, and how long it does."""

    words: str
    ends: datetime

    def finding(self, check: str, fix: str) -> Finding:
        left_s = (self.ends - datetime.now(UTC)).total_seconds()
        word = "valid until" if left_s > 0 else "expired at"
        evidence = f"{word} {self.ends:%Y-%m-%d %H:%M} UTC; {self.words}"
        return Finding(check, left_s > SOON_S, evidence, f"{fix}: less than {SOON_S / 86_400:.0f} days are left")


async def _shake_hands(tls: BrokerTls) -> _Certificate | Finding:
    """As the gateway does: what the broker shows, or why it does not hold."""
    try:
        context = await asyncio.to_thread(tls.context)
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection(tls.host, tls.port, ssl=context, server_hostname=tls.name)
    except (OSError, TimeoutError, BrokerTlsError) as error:
        trouble = await tls.explain(error)
        if trouble is None:
            return Finding(CERTIFICATE, False, f"no handshake: {error or 'no answer'}", "see the broker's log")
        return Finding(CERTIFICATE, False, f"{trouble.what}: {trouble.evidence} [{trouble.code}]", trouble.fix)
    connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
    shown = connection.getpeercert() or {}
    version = connection.version()
    writer.close()
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)
    return _Certificate(f"of {tls.name}, {version}", ends)


def _own_certificate(path: Path) -> Finding:
    check, fix = "gateway's certificate", "have a new one signed; see gateway.bridge.tls.certificate_file"
    try:
        ends = read_truststore(path)[0].not_valid_after_utc
    except StoreFileError as error:
        return Finding(check, False, f"{error.what}: {error.evidence}", error.fix)
    return _Certificate(str(path), ends).finding(check, fix)


async def _login(bridge: BridgeSettings, site: Site) -> Finding:
    """A login of the gateway's user, ended at once; by MQTT 5, or else by 3.1.1."""
    source = bridge.password_file or site.state_dir / "secrets" / BROKER_SECRET
    who = f"user {bridge.username}, password of {source}"
    fix = "give the broker's user that password, or correct gateway.bridge.username and password_file; its log says why"
    if bridge.password_file is None and not source.is_file():
        return Finding(LOGIN, False, f"{who}: there is none yet", "start the gateway once, or set password_file")
    try:
        as_gateway = login(bridge, site, "gw-doctor")
    except OSError as error:
        return Finding(LOGIN, False, f"{who}: {error.strerror}", "see gateway.bridge.password_file")
    failure = await _refusal(as_gateway, MqttVersion.V5)
    version = "MQTT 5"
    if failure is not None and failure.version_refused:
        failure, version = await _refusal(as_gateway, MqttVersion.V311), "MQTT 3.1.1"
    if failure is None:
        return Finding(LOGIN, True, f"accepted, {version}; {who}")
    if failure.trouble is not None:
        return Finding(LOGIN, False, f"{failure.trouble.what}: {failure.trouble.evidence}", failure.trouble.fix)
    return Finding(LOGIN, False, f"{failure}; {who}", fix)


async def _refusal(as_gateway: Login, version: MqttVersion) -> ConnectFailure | None:
    try:
        async with Connection(as_gateway, version):
            return None
    except ConnectFailure as failure:
        return failure
