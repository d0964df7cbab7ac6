"""The addresses file and the commands that write it."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.addresses.address import Address, AddressType
from broker.addresses.book import AddressBook
from broker.addresses.command import app
from broker.errors import AddressError
from broker.settings import BrokerSettings
from broker.tenants import Plan
from gateway.settings import GatewaySettings
from meshwire.config import load_config, read_settings


def queue(name: str, **fields: object) -> Address:
    return Address.model_validate({"tenant": "acme", "name": name, "type": "queue", **fields})


def test_what_one_process_writes_another_one_sees(tmp_path: Path) -> None:
    writer, reader = AddressBook(tmp_path / "addresses.json"), AddressBook(tmp_path / "addresses.json")
    assert (reader.reload(), list(reader)) == (False, [])
    writer.put(queue("orders", max_ttl_s=60))
    assert (reader.reload(), reader.reload()) == (True, False)
    assert reader.of("acme", "orders") == queue("orders", max_ttl_s=60)
    writer.remove("acme", "orders")
    assert reader.reload() and list(reader) == []
    assert (tmp_path / "addresses.json").stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "addresses.json"
    book = AddressBook(path)
    book.put(queue("orders"))
    path.write_text('{"addresses": [{"tenant": "acme"}]}')
    os.utime(path, (1, 1))
    assert (book.reload(), [item.name for item in book]) == (False, ["orders"])
    with pytest.raises(AddressError, match="not valid"):
        AddressBook(path)
    path.write_text(json.dumps({"addresses": [queue("a").model_dump(mode="json")] * 2}))
    with pytest.raises(AddressError, match="same name"):
        AddressBook(path)


MISFITS = [
    (queue("other", filter="address/orders"), "two addresses"),
    (queue("wide", filter="address/#"), "two addresses"),
    (queue("x", dead_letter="nothing"), "dead letters"),
    (queue("x", dead_letter="wide read"), "dead letters"),
    (queue("x", expired_to="direct"), "dead letters"),
]


@pytest.mark.parametrize(("wrong", "words"), MISFITS)
def test_what_does_not_fit_the_others(wrong: Address, words: str, tmp_path: Path) -> None:
    book = AddressBook(tmp_path / "addresses.json")
    book.put(queue("orders"))
    book.put(queue("wide read", filter="read/#"))
    book.put(Address(tenant="acme", name="direct", type=AddressType.ANYCAST))
    with pytest.raises(AddressError, match=words):
        book.put(wrong)
    assert len(list(book)) == 3
    book.put(wrong.model_copy(update={"tenant": "globex", "dead_letter": None, "expired_to": None}))


def test_a_dead_letter_address_stays_while_it_is_needed(tmp_path: Path) -> None:
    book = AddressBook(tmp_path / "addresses.json")
    book.put(queue("dead"))
    book.put(queue("orders", dead_letter="dead"))
    with pytest.raises(AddressError, match="dead letters"):
        book.remove("acme", "dead")


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path))
    monkeypatch.setenv("MESHWIRE_TENANT", "acme")
    config = tmp_path / "site.toml"
    config.write_text("[broker.plan.acme]\nmax_addresses = 2\n")
    monkeypatch.setenv("MESHWIRE_CONFIG", str(config))
    run = CliRunner()

    def invoke(*arguments: str) -> str:
        result = run.invoke(app, arguments)
        if result.exception is not None:
            raise result.exception
        return result.output

    invoke("add", "dead", "--type", "queue")
    invoke("add", "orders", "--type", "queue", "--max-ttl", "60", "--dead-letter", "dead", "--max-messages", "9")
    assert invoke("list").splitlines() == [
        "acme\tdead\tqueue\tacme/address/dead",
        "acme\torders\tqueue\tacme/address/orders",
    ]
    invoke("set", "orders", "--max-ttl", "0", "--max-deliveries", "3")
    shown = json.loads(invoke("show", "orders", "--json"))
    assert (shown.get("max_ttl_s"), shown["max_deliveries"], shown["max_messages"]) == (None, 3, 9)
    assert "dead_letter\tdead" in invoke("show", "orders")
    with pytest.raises(AddressError) as caught:
        invoke("add", "third", "--type", "topic")
    assert caught.value.code == "MW-BRK-022"
    invoke("add", "orders", "--type", "anycast")
    invoke("remove", "orders")
    with pytest.raises(AddressError) as caught:
        invoke("remove", "orders")
    assert caught.value.code == "MW-BRK-021"
    with pytest.raises(AddressError) as caught:
        invoke("add", "x", "--type", "topic", "--max-messages", "5")
    assert caught.value.code == "MW-BRK-020"
    assert "seen: x: an address of type topic has no use for max_messages" in str(caught.value)


def test_the_free_plan_is_a_valid_configuration() -> None:
    path = Path(__file__).parents[3] / "deploy/plans/free.toml"
    settings = read_settings(BrokerSettings, "broker", load_config(path, {}))
    assert (settings.default_plan.max_connections, settings.default_plan.max_messages_per_s) == (10, 20)
    assert read_settings(GatewaySettings, "gateway", load_config(path, {})).registry.max_devices == 20
    assert settings.plan["ssni"] == Plan(), "the gateway is not a guest"
