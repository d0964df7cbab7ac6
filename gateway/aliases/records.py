"""What an alias, its rules, triggers, packages and stores consist of: names, defaults, units, and ranges of one field.

Each class is a section of the configuration file, an entry of the site's store and a body of the HTTP API. Rules that
need more than one field, or the rest of the catalogue, are in `checks.py`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, FieldSerializationInfo, SecretStr, field_serializer

__all__ = [
    "DEFAULT_PACKAGE",
    "WITH_SECRETS",
    "Action",
    "AliasSettings",
    "CommandAction",
    "HttpAction",
    "KeystoreSettings",
    "LogAction",
    "PackageSettings",
    "PublishRule",
    "PublishAction",
    "Subscription",
    "TriggerSettings",
    "TruststoreSettings",
]

DEFAULT_PACKAGE: Final = "WmRoot"
"""The core package: always there, always enabled."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Qos = Annotated[int, Field(ge=0, le=2)]
WITH_SECRETS: Final = {"with_secrets": True}
"""Context for `model_dump_json` on the way to a worker process."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_serializer("password", when_used="json-unless-none", check_fields=False)
    def _stars(self, value: SecretStr, info: FieldSerializationInfo) -> str:
        """Stars, except for a process of our own that needs the password (`WITH_SECRETS`)."""
        return value.get_secret_value() if info.context == WITH_SECRETS else str(value)


class PublishRule(_Section):
    """`[[gateway.alias.publish]]`: notifications that go through the alias, and to which topic."""

    tenant: str = "*"
    """Tenant id; * for all."""
    category: Literal["*", "read", "alert"] = "*"
    """Branch that the notification belongs to; * for both."""
    type: str = "*"
    """Device type; * for all, `nc*` for all that begin so."""
    topic: str = "{tenant}/{category}/{mac}/{type}"
    """Template: {tenant} {category} {mac} {type} {path} are filled in."""
    qos: Qos = 1
    """0, 1 or 2."""
    retained: bool = False
    """Whether the broker keeps the last message of each topic."""


class AliasSettings(_Section):
    """`[[gateway.alias]]`: one MQTT connection alias."""

    name: Name
    """Connection alias name, unique: letters, digits, _ . -; at most 64."""
    description: str = Field(default="", max_length=1024)
    """For people."""
    package: Name = DEFAULT_PACKAGE
    """The alias is enabled and disabled with this package; WmRoot is always on."""
    enabled: bool = False
    """Saved is not enabled: an alias connects only when this is true, and its package is enabled."""
    host: str
    """URL: tcp://HOST:PORT, ssl://HOST:PORT, ws://HOST:PORT/PATH or wss://HOST:PORT/PATH."""
    client_id: str = ""
    """Connection client id; empty: generated, always the same one for this site and name."""
    clean_session: bool = False
    """Clean session for subscriptions: triggers forget what they missed; false: QoS 1 and 2 messages are kept."""
    connect_timeout_s: int = Field(default=30, ge=0, le=86_400)
    """Most seconds to wait for a connection; 0: as long as it takes to succeed or fail."""
    keep_alive_s: int = Field(default=60, ge=0, le=65_535)
    """Most seconds without a packet either way; 0: off."""
    will_enabled: bool = False
    """Enable last-will: the broker publishes it when the connection ends without a word."""
    will_qos: Qos = 0
    """Last-will QoS 0, 1 or 2; also of the on-connect and on-disconnect messages."""
    will_retained: bool = False
    """Whether the broker retains the last will; also the on-connect and on-disconnect messages."""
    will_topic: str = ""
    """Last-will topic; it need not exist."""
    will_payload: str = ""
    """Last-will message payload."""
    on_connect_payload: str = ""
    """Published to the last-will topic after each connection; empty: nothing is published."""
    on_disconnect_payload: str = ""
    """Published to the last-will topic before an orderly end; empty: nothing is published."""
    username: str = ""
    """User name; empty: none."""
    password: SecretStr | None = None
    """Password, or ${ENV}; never shown. Better: password_file."""
    password_file: str = ""
    """File with the password."""
    use_ssl: bool | None = None
    """Use SSL; absent: as the host's scheme says."""
    truststore: str = ""
    """Truststore alias: who may sign the server's certificate; required with SSL."""
    keystore: str = ""
    """Keystore alias: holds the client's certificate, for mutual TLS only."""
    key_alias: str = ""
    """Key alias inside the keystore; required with a keystore."""
    publish: tuple[PublishRule, ...] = ()
    """Which notifications the alias publishes; the first rule that fits decides, none: none."""
    queue_max_octets: int = Field(default=64 << 20, ge=4096)
    """Most octets waiting on disk while the broker is away; what comes beyond is lost for this alias, and counted."""


class Subscription(_Section):
    """One topic filter of a trigger."""

    filter: str
    """Topic filter, with + and #."""
    qos: Qos = 1
    """Highest QoS at which the broker delivers."""


class LogAction(_Section):
    """Write a line into the gateway's log."""

    kind: Literal["log"]
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Log level."""


class HttpAction(_Section):
    """Send the message to an HTTP server; any answer of class 2 is success."""

    kind: Literal["http"]
    url: str
    """http:// or https:// URL."""
    method: Literal["POST", "PUT"] = "POST"
    """Request method; the body is the payload, octet for octet."""
    content_type: str = "application/octet-stream"
    """Content-Type where the message has none."""
    token_file: str = ""
    """File with a token for the header `Authorization: Bearer`; empty: no header."""
    truststore: str = ""
    """For https: truststore alias; empty: the system's own authorities."""
    timeout_s: float = Field(default=10.0, gt=0, le=600)
    """Most seconds for one attempt."""


class PublishAction(_Section):
    """Publish the payload at another alias."""

    kind: Literal["publish"]
    alias: str
    """Alias that publishes; it has to be enabled."""
    topic: str = "{topic}"
    """Template: {topic} and {1} {2} … (levels of the received topic) are filled in."""
    qos: Qos = 1
    """0, 1 or 2."""
    retained: bool = False
    """Whether the broker retains it."""


class CommandAction(_Section):
    """Send a CoAP request to a device of this site; an answer of class 2 is success."""

    kind: Literal["command"]
    tenant: str
    """Only devices of this tenant can be reached."""
    device: str = "{1}"
    """MAC; {topic} and {1} {2} … (levels of the received topic) are filled in."""
    method: Literal["GET", "PUT", "POST", "DELETE"] = "PUT"
    """CoAP method; the payload of PUT and POST is the message's."""
    path: str
    """Path on the device, such as snsr/arduino/temp?sens; {1} {2} … are filled in."""
    timeout_s: float = Field(default=60.0, gt=0, le=600)
    """Most seconds for one attempt."""
    mode: Literal["direct", "stored"] = "direct"
    """direct: the device has to answer; stored: the request is kept for one that is away, and accepting is success."""
    ttl_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Seconds for which a stored request is kept, at most gateway.commands.max_ttl_s; mandatory for stored ones."""
    replace: bool = False
    """Whether a stored request takes the place of older ones that wait, for the same method and path."""


Action = Annotated[LogAction | HttpAction | PublishAction | CommandAction, Field(discriminator="kind")]


class TriggerSettings(_Section):
    """`[[gateway.trigger]]`: a named set of subscriptions bound to an alias, and what its messages do."""

    name: Name
    """Trigger name, unique."""
    description: str = Field(default="", max_length=1024)
    """For people."""
    package: Name = DEFAULT_PACKAGE
    """The trigger is enabled and disabled with this package."""
    enabled: bool = False
    """A trigger listens only when this is true and its alias is enabled."""
    alias: str
    """Alias whose broker is asked."""
    client_id: str = ""
    """MQTT client id of the trigger's own connection; empty: the alias's id, a dash and the trigger's name."""
    subscriptions: tuple[Subscription, ...]
    """Topic filters; at least one."""
    action: Action = LogAction(kind="log")
    """What happens with each message: log, http, publish or command."""
    attempts: int = Field(default=5, ge=1, le=1000)
    """How often an action is tried for one message; then the message is given up and counted."""


class PackageSettings(_Section):
    """`[[gateway.package]]`: aliases and triggers that are enabled, disabled, exported and imported together."""

    name: Name
    """Package name, unique."""
    description: str = Field(default="", max_length=1024)
    """For people."""
    enabled: bool = True
    """Its aliases and triggers work only when this is true."""


class TruststoreSettings(_Section):
    """`[[gateway.truststore]]`: certificate authorities under a name."""

    name: Name
    """Truststore alias, unique."""
    description: str = Field(default="", max_length=1024)
    """For people."""
    file: str = ""
    """PEM or PKCS#12 file with certificates of authorities."""
    system: bool = False
    """Trust the authorities of the operating system, too."""
    password: SecretStr | None = None
    """Of a PKCS#12 file, or ${ENV}; never shown."""
    password_file: str = ""
    """File with the password."""


class KeystoreSettings(_Section):
    """`[[gateway.keystore]]`: private keys with their certificates under a name."""

    name: Name
    """Keystore alias, unique."""
    description: str = Field(default="", max_length=1024)
    """For people."""
    file: str
    """PEM (keys and certificates, any number) or PKCS#12 file."""
    password: SecretStr | None = None
    """Of the file, or ${ENV}; never shown."""
    password_file: str = ""
    """File with the password."""
