"""Which fields of an alias, trigger, package or store fit together: one message for each that does not. No network."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from gateway.aliases.catalogue import Catalogue, Kind, PasswordMissing, Record, password_of
from gateway.aliases.errors import FieldProblem, StoreFileError
from gateway.aliases.host import BrokerAddress, parse_host
from gateway.aliases.keystore import read_keystore, read_truststore
from gateway.aliases.records import (
    AliasSettings,
    CommandAction,
    HttpAction,
    KeystoreSettings,
    PackageSettings,
    PublishAction,
    TriggerSettings,
    TruststoreSettings,
)
from gateway.aliases.templates import RULE_PLACES, check_template
from meshwire.identity import DeviceId, IdentityError, TenantId
from meshwire.topics import TopicError, validate_filter, validate_topic

__all__ = ["check"]

_MAX_OCTETS: Final = 65_535
"""Of a text or binary field in MQTT (MQTT 5.0 section 1.5)."""


def check(record: Record, catalogue: Catalogue, environment: Mapping[str, str]) -> list[FieldProblem]:
    """Everything that does not fit, in the order of the fields.

    Args:
        record: to be saved, or saved.
        catalogue: what it may name.
        environment: for `${NAME}` in passwords.
    """
    match record:
        case AliasSettings():
            return list(_alias(record, catalogue, environment))
        case TriggerSettings():
            return list(_trigger(record, catalogue))
        case TruststoreSettings():
            return list(_truststore(record, environment))
        case KeystoreSettings():
            return list(_keystore(record, environment))
        case PackageSettings():
            return []


def _alias(alias: AliasSettings, catalogue: Catalogue, environment: Mapping[str, str]) -> Iterator[FieldProblem]:
    yield from _package(alias.package, catalogue)
    try:
        address = parse_host(alias.host)
    except ValueError as error:
        address = None
        yield FieldProblem("host", str(error))
    yield from _client_id(alias.client_id)
    yield from _will(alias)
    yield from _credentials(alias, environment)
    yield from _tls(alias, address, catalogue, environment)
    for number, rule in enumerate(alias.publish):
        if rule.tenant != "*":
            try:
                TenantId(rule.tenant)
            except IdentityError as error:
                yield FieldProblem(f"publish.{number}.tenant", str(error))
        wrong = check_template(rule.topic, RULE_PLACES)
        if wrong is not None:
            yield FieldProblem(f"publish.{number}.topic", wrong)


def _package(name: str, catalogue: Catalogue) -> Iterator[FieldProblem]:
    if name not in catalogue.of(Kind.PACKAGE):
        yield FieldProblem("package", f"there is no package {name}: add it first, or leave it at WmRoot")


def _client_id(text: str) -> Iterator[FieldProblem]:
    if "\0" in text or len(text.encode()) > _MAX_OCTETS:
        yield FieldProblem("client_id", f"has to be at most {_MAX_OCTETS} octets without U+0000")


def _will(alias: AliasSettings) -> Iterator[FieldProblem]:
    users = [
        name
        for name, is_used in (
            ("will_enabled", alias.will_enabled),
            ("on_connect_payload", bool(alias.on_connect_payload)),
            ("on_disconnect_payload", bool(alias.on_disconnect_payload)),
        )
        if is_used
    ]
    if alias.will_topic:
        try:
            validate_topic(alias.will_topic)
        except TopicError as error:
            yield FieldProblem("will_topic", str(error))
    elif users:
        yield FieldProblem("will_topic", f"is needed by {', '.join(users)}")
    for name in ("will_payload", "on_connect_payload", "on_disconnect_payload"):
        if len(getattr(alias, name).encode()) > _MAX_OCTETS:
            yield FieldProblem(name, f"is longer than {_MAX_OCTETS} octets")


def _credentials(alias: AliasSettings, environment: Mapping[str, str]) -> Iterator[FieldProblem]:
    if "\0" in alias.username or len(alias.username.encode()) > _MAX_OCTETS:
        yield FieldProblem("username", f"has to be at most {_MAX_OCTETS} octets without U+0000")
    if alias.password is not None and alias.password_file:
        yield FieldProblem("password", "is given twice: here and by password_file")
    yield from _password(alias, environment)
    if (alias.password is not None or alias.password_file) and not alias.username:
        yield FieldProblem("username", "is needed with a password (MQTT 3.1.1 section 3.1.2.9)")


def _password(
    record: AliasSettings | TruststoreSettings | KeystoreSettings, environment: Mapping[str, str]
) -> Iterator[FieldProblem]:
    try:
        password_of(record, environment)
    except PasswordMissing as error:
        yield FieldProblem("password_file" if record.password_file else "password", str(error))


def _tls(
    alias: AliasSettings, address: BrokerAddress | None, catalogue: Catalogue, environment: Mapping[str, str]
) -> Iterator[FieldProblem]:
    is_tls = alias.use_ssl if alias.use_ssl is not None else address is not None and address.is_tls
    if address is not None and alias.use_ssl is True and not address.is_tls:
        yield FieldProblem("host", "has to begin with ssl:// (or wss://) when SSL is used")
    if address is not None and alias.use_ssl is False and address.is_tls:
        yield FieldProblem("use_ssl", f"is needed: host begins with {address.scheme}://")
        is_tls = True
    if not is_tls:
        for name in ("truststore", "keystore", "key_alias"):
            if getattr(alias, name):
                yield FieldProblem(name, "has a use with SSL only: begin host with ssl:// or wss://")
        return
    if not alias.truststore:
        yield FieldProblem("truststore", "is needed with SSL: it says who may sign the server's certificate")
    elif alias.truststore not in catalogue.truststores:
        yield FieldProblem("truststore", f"there is no truststore {alias.truststore}")
    else:
        yield from _readable_truststore(alias.truststore, catalogue, environment)
    yield from _keys(alias, catalogue, environment)


def _readable_truststore(name: str, catalogue: Catalogue, environment: Mapping[str, str]) -> Iterator[FieldProblem]:
    try:
        catalogue.anchors(name, environment)
    except (StoreFileError, PasswordMissing) as error:
        yield FieldProblem("truststore", _told(error))


def _keys(alias: AliasSettings, catalogue: Catalogue, environment: Mapping[str, str]) -> Iterator[FieldProblem]:
    if not alias.keystore:
        if alias.key_alias:
            yield FieldProblem("keystore", "is needed with a key alias")
        return
    if alias.keystore not in catalogue.keystores:
        yield FieldProblem("keystore", f"there is no keystore {alias.keystore}")
        return
    try:
        entries = catalogue.key_entries(alias.keystore, environment)
    except (StoreFileError, PasswordMissing) as error:
        yield FieldProblem("keystore", _told(error))
        return
    if not alias.key_alias:
        yield FieldProblem("key_alias", f"is needed with a keystore; {alias.keystore} holds {', '.join(entries)}")
    elif alias.key_alias not in entries:
        yield FieldProblem("key_alias", f"is not in keystore {alias.keystore}; it holds {', '.join(entries)}")


def _trigger(trigger: TriggerSettings, catalogue: Catalogue) -> Iterator[FieldProblem]:
    yield from _package(trigger.package, catalogue)
    if trigger.alias not in catalogue.aliases:
        yield FieldProblem("alias", f"there is no alias {trigger.alias}")
    yield from _client_id(trigger.client_id)
    if not trigger.subscriptions:
        yield FieldProblem("subscriptions", "at least one is needed")
    for number, each in enumerate(trigger.subscriptions):
        try:
            validate_filter(each.filter.split("/", 2)[-1] if each.filter.startswith("$share/") else each.filter)
        except TopicError as error:
            yield FieldProblem(f"subscriptions.{number}.filter", str(error))
    yield from _action(trigger, catalogue)


def _action(trigger: TriggerSettings, catalogue: Catalogue) -> Iterator[FieldProblem]:
    action = trigger.action
    if isinstance(action, HttpAction):
        parts = urllib.parse.urlsplit(action.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield FieldProblem("action.url", "has to be an http:// or https:// URL")
        if action.truststore and action.truststore not in catalogue.truststores:
            yield FieldProblem("action.truststore", f"there is no truststore {action.truststore}")
        if action.token_file and not Path(action.token_file).is_file():
            yield FieldProblem("action.token_file", f"there is no file {action.token_file}")
    elif isinstance(action, PublishAction):
        if action.alias not in catalogue.aliases:
            yield FieldProblem("action.alias", f"there is no alias {action.alias}")
        wrong = check_template(action.topic, frozenset({"topic"}), numbered=True)
        if wrong is not None:
            yield FieldProblem("action.topic", wrong)
    elif isinstance(action, CommandAction):
        yield from _command(action)


def _command(action: CommandAction) -> Iterator[FieldProblem]:
    try:
        TenantId(action.tenant)
    except IdentityError as error:
        yield FieldProblem("action.tenant", str(error))
    if "{" not in action.device:
        try:
            DeviceId.parse(action.device)
        except IdentityError as error:
            yield FieldProblem("action.device", str(error))
    if not action.path.strip("/"):
        yield FieldProblem("action.path", "is empty")
    if action.mode == "stored" and action.ttl_s is None:
        yield FieldProblem("action.ttl_s", "is missing: for how long a stored command is kept")
    elif action.mode == "direct" and action.ttl_s is not None:
        yield FieldProblem("action.ttl_s", "is for mode = stored")
    if action.mode == "direct" and action.replace:
        yield FieldProblem("action.replace", "is for mode = stored")


def _truststore(store: TruststoreSettings, environment: Mapping[str, str]) -> Iterator[FieldProblem]:
    if not store.file and not store.system:
        yield FieldProblem("file", "is needed, unless system is true")
    problems = list(_password(store, environment))
    yield from problems
    if store.file and not problems:
        try:
            read_truststore(Path(store.file), password_of(store, environment))
        except StoreFileError as error:
            yield FieldProblem("file", _told(error))


def _keystore(store: KeystoreSettings, environment: Mapping[str, str]) -> Iterator[FieldProblem]:
    problems = list(_password(store, environment))
    yield from problems
    if not problems:
        try:
            read_keystore(Path(store.file), password_of(store, environment))
        except StoreFileError as error:
            yield FieldProblem("file", _told(error))


def _told(error: StoreFileError | PasswordMissing) -> str:
    """Without code and advice: they are the whole message's."""
    return f"{error.what}: {error.evidence}" if isinstance(error, StoreFileError) else str(error)
