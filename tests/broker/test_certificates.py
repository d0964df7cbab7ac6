"""`meshwire cert make`: files that a TLS library accepts, keys that others can't read, an authority that stays."""

import ssl
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.certificates import TrialAuthority, app
from broker.errors import CertificateError


def test_it_makes_an_authority_a_server_and_clients(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    arguments = ["make", "--dir", str(folder), "--host", "broker.example", "--host", "::1", "--client", "acme/truck 7"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    names = ["ca.crt", "server.crt", "server.key", "client-acme-truck_7.crt", "client-acme-truck_7.key"]
    assert result.stdout.split() == [str(folder / name) for name in names]
    for path in folder.glob("*.key"):
        assert path.stat().st_mode & 0o077 == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    context.load_verify_locations(folder / "ca.crt")


def test_the_authority_stays_when_it_is_called_again(tmp_path: Path) -> None:
    TrialAuthority.in_folder(tmp_path)
    before = (tmp_path / "ca.crt").read_bytes()
    TrialAuthority.in_folder(tmp_path).server(("localhost",))
    assert (tmp_path / "ca.crt").read_bytes() == before


def test_half_an_authority_is_an_error(tmp_path: Path) -> None:
    TrialAuthority.in_folder(tmp_path)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(CertificateError) as caught:
        TrialAuthority.in_folder(tmp_path)
    assert caught.value.code == "MW-BRK-012"


def test_a_tenant_that_is_none_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["make", "--dir", str(tmp_path), "--client", "a.b/x"])
    assert result.exit_code == 2
