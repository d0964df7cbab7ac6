"""RabbitMQ's files with TLS: which listeners there are, what they are given, and what is refused."""

import re
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from broker.adapters.__main__ import app
from broker.adapters.rabbitmq.tls import TlsFiles, tls_of_listeners
from broker.certificates import TrialAuthority
from broker.errors import TlsFilesError
from broker.settings import ListenerSettings
from meshwire.identity import LoginKind, TenantId


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    authority = TrialAuthority.in_folder(tmp_path / "certs")
    authority.server(("rabbit.example",))
    authority.client("truck", TenantId("acme"), file="client")
    return authority.folder


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path / "state"))


def written(folder: Path, *arguments: object, engine: str = "rabbitmq") -> Result:
    """What the command does."""
    command = ["generate", engine, "--directory", str(folder), *map(str, arguments)]
    return CliRunner().invoke(app, command)


def settings(folder: Path) -> dict[str, str]:
    """`rabbitmq.conf`, by key."""
    lines = (folder / "rabbitmq.conf").read_text().splitlines()
    return dict(line.split(" = ", 1) for line in lines if line and not line.startswith("#"))


def test_without_a_certificate_there_is_no_tls(tmp_path: Path) -> None:
    assert written(tmp_path, "--amqp").exit_code == 0
    assert not [key for key in settings(tmp_path) if "ssl" in key]
    assert settings(tmp_path)["mqtt.listeners.tcp.default"] == "0.0.0.0:1883"


def test_with_a_certificate_every_protocol_has_a_port_with_tls(tmp_path: Path, certs: Path) -> None:
    folder = tmp_path / "files"
    done = written(folder, "--amqp", "--certificate", certs / "server.crt", "--key", certs / "server.key")
    assert done.exit_code == 0, done.output
    made = settings(folder)
    assert {key: value for key, value in made.items() if "ssl" in key} == {
        "listeners.ssl.default": "0.0.0.0:5671",
        "mqtt.listeners.ssl.default": "0.0.0.0:8883",
        "ssl_options.certfile": "/etc/rabbitmq/server.crt",
        "ssl_options.keyfile": "/etc/rabbitmq/server.key",
        "ssl_options.versions.1": "tlsv1.3",
        "ssl_options.versions.2": "tlsv1.2",
        "ssl_options.verify": "verify_none",
        "ssl_options.fail_if_no_peer_cert": "false",
        "web_mqtt.ssl.ip": "0.0.0.0",
        "web_mqtt.ssl.port": "15676",
        "web_mqtt.ssl.certfile": "/etc/rabbitmq/server.crt",
        "web_mqtt.ssl.keyfile": "/etc/rabbitmq/server.key",
        "web_mqtt.ssl.versions.1": "tlsv1.3",
        "web_mqtt.ssl.versions.2": "tlsv1.2",
    }
    plain = ("listeners.tcp.default", "mqtt.listeners.tcp.default", "web_mqtt.tcp.ip")
    assert [made[key].split(":")[0] for key in plain] == ["127.0.0.1"] * 3
    for name in ("server.crt", "server.key"):
        assert (folder / name).read_text() == (certs / name).read_text()
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert not (folder / "client-ca.crt").exists()


def test_amqp_over_tls_is_there_only_with_amqp(tmp_path: Path, certs: Path) -> None:
    written(tmp_path, "--certificate", certs / "server.crt", "--key", certs / "server.key", "--plain-host", "10.0.0.11")
    made = settings(tmp_path)
    assert "listeners.ssl.default" not in made
    assert made["listeners.tcp"] == "none"
    assert (made["mqtt.listeners.tcp.default"], made["web_mqtt.tcp.ip"]) == ("10.0.0.11:1883", "10.0.0.11")


def test_mutual_tls_demands_a_certificate_on_all_ports_there_are(tmp_path: Path, certs: Path) -> None:
    pair = ("--certificate", certs / "server.crt", "--key", certs / "server.key")
    assert written(tmp_path, "--amqp", *pair, "--client-ca", certs / "ca.crt").exit_code == 0
    made = settings(tmp_path)
    assert made["ssl_options.verify"] == "verify_peer"
    assert made["ssl_options.fail_if_no_peer_cert"] == "true"
    assert made["ssl_options.cacertfile"] == "/etc/rabbitmq/client-ca.crt"
    assert (tmp_path / "client-ca.crt").read_text() == (certs / "ca.crt").read_text()
    assert {"listeners.ssl.default", "mqtt.listeners.ssl.default"} <= set(made)
    assert not [key for key in made if key.startswith("web_mqtt.ssl")]


def test_a_configuration_with_tls_is_carried_over(tmp_path: Path, certs: Path) -> None:
    config = tmp_path / "meshwire.toml"
    config.write_text(
        f"""
[[broker.listener]]
[[broker.listener]]
kind = "mqtts"
certificate_file = "{certs}/server.crt"
key_file = "{certs}/server.key"
client_ca_file = "{certs}/ca.crt"
enable_client_cert_validation = true
"""
    )
    assert written(tmp_path / "files", "--config", config).exit_code == 0
    assert settings(tmp_path / "files")["ssl_options.verify"] == "verify_peer"
    assert (tmp_path / "files" / "server.key").exists()
    assert written(tmp_path / "emqx", "--config", config, engine="emqx").exit_code == 0
    assert [path.name for path in (tmp_path / "emqx").iterdir()] == ["emqx.conf"]


@pytest.mark.parametrize(
    ("ways", "demanded", "is_mutual"),
    [
        ((LoginKind.PASSWORD,), False, False),
        ((LoginKind.PASSWORD,), True, True),
        ((LoginKind.PASSWORD, LoginKind.CERTIFICATE), False, False),
        ((LoginKind.CERTIFICATE,), False, True),
    ],
)
def test_a_certificate_is_demanded_where_the_listener_demands_one(
    certs: Path, ways: tuple[LoginKind, ...], demanded: bool, is_mutual: bool
) -> None:
    listener = ListenerSettings.model_validate(
        {
            "kind": "wss",
            "certificate_file": certs / "server.crt",
            "key_file": certs / "server.key",
            "client_ca_file": certs / "ca.crt",
            "authentication": ways,
            "enable_client_cert_validation": demanded,
        }
    )
    files = tls_of_listeners((ListenerSettings(), listener))
    assert files is not None
    assert files.is_mutual is is_mutual


def test_the_key_may_stand_with_the_certificate(tmp_path: Path, certs: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text((certs / "server.crt").read_text() + (certs / "server.key").read_text())
    files = TlsFiles.read(both)
    assert files.certificate == files.key == both.read_text()


@pytest.mark.parametrize(
    ("key", "client_ca"), [("client.key", None), ("absent.key", None), ("server.key", "server.key")]
)
def test_files_that_do_not_fit_are_refused(certs: Path, key: str, client_ca: str | None) -> None:
    with pytest.raises(TlsFilesError, match="meshwire cert make") as refused:
        TlsFiles.read(certs / "server.crt", certs / key, certs / client_ca if client_ca else None)
    assert str(certs) in str(refused.value)


@pytest.mark.parametrize(
    ("engine", "arguments"),
    [
        ("rabbitmq", ("--client-ca", "ca.crt")),
        ("rabbitmq", ("--key", "server.key")),
        ("mosquitto", ("--certificate", "server.crt")),
        ("emqx", ("--plain-host", "10.0.0.11")),
    ],
)
def test_options_without_effect_are_refused(tmp_path: Path, engine: str, arguments: tuple[str, ...]) -> None:
    done = written(tmp_path / "files", *arguments, engine=engine)
    assert done.exit_code == 2, done.output
    assert not (tmp_path / "files").exists()


def test_a_trial_asks_for_certificates_only_where_it_has_an_authority() -> None:
    done = CliRunner().invoke(app, ["trial", "--mutual"])
    assert done.exit_code == 2
    assert re.search(r"--mutual needs\s+--certs", done.output)
