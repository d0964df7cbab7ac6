"""Settings of the authority: section `[authority]`. Who may log in is said in `[broker]`: users, keys, roles."""

from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from broker.accounts import Protection
from broker.adapters.capabilities import Engine
from broker.settings import ListenerKind

__all__ = [
    "AuthoritySettings",
    "CallerRule",
    "ClientIdRule",
    "EngineName",
    "EngineNode",
    "MosquittoSettings",
    "RabbitSettings",
    "check_endpoint",
]

EngineName = Literal["rabbitmq", "emqx", "vernemq", "mosquitto"]


def check_endpoint(text: str) -> str:
    """The text, if it is HOST:PORT; raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) <= 65_535):
        raise ValueError(f"{text!r} is not HOST:PORT")
    return text


class CallerRule(StrEnum):
    """Whom the authority answers."""

    SECRET = "secret"
    """Who knows the shared secret: in front of the path (`/SECRET/hooks/…`) or as `Authorization: Bearer`."""
    LOOPBACK = "loopback"
    """Any process of this machine."""


class ClientIdRule(StrEnum):
    """How a client id is kept for its owner on an engine whose client ids are common to all tenants."""

    FIRST_COME = "first-come"
    """It belongs to the tenant that used it first, until it is forgotten."""
    PREFIX = "prefix"
    """It must be the tenant's id, alone or followed by `:`, `.` or `/` and more."""


class RabbitSettings(BaseModel):
    """`[authority.rabbitmq]`: what a client may use besides topics."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vhost: str = "/"
    """The one virtual host."""
    exchange: str = "amq.topic"
    """The exchange that MQTT messages pass."""


class MosquittoSettings(BaseModel):
    """`[authority.mosquitto]`: a Mosquitto whose users are changed live."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    control: str = ""
    """HOST:PORT of a listener without `use_username_as_clientid`; empty: there is none."""
    username: str = "meshwire-control"
    """The control user of the generated file; its password is the site's secret `mosquitto-control`."""

    @field_validator("control")
    @classmethod
    def _is_endpoint(cls, value: str) -> str:
        return check_endpoint(value) if value else value


class EngineNode(BaseModel):
    """`[[authority.node]]`: a node of the engine, announced as one of the instance while it takes connections."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64)
    """Tells the nodes apart."""
    kind: ListenerKind = ListenerKind.MQTT
    """What is spoken on its port."""
    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65_535)
    mutual: bool = False
    """Whether it asks for client certificates; of mqtts and wss."""

    @property
    def options(self) -> tuple[Protection, ...]:
        """How connections to it can be protected."""
        if self.kind in (ListenerKind.MQTT, ListenerKind.WS):
            return (Protection.PLAIN,)
        return (Protection.TLS, Protection.MUTUAL) if self.mutual else (Protection.TLS,)


class AuthoritySettings(BaseModel):
    """`[authority]`: the policy as a service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Engine | None = None
    """The broker that is served; set, the configuration is checked at start for what that broker can't do."""
    host: str = "127.0.0.1"
    """Address to listen on; passwords pass here in the clear: this machine, or a private net."""
    port: int = Field(default=8099, ge=0, le=65_535)
    """TCP port; 0: any free one."""
    caller: CallerRule = CallerRule.SECRET
    """Whom to answer."""
    secret_file: Path | None = None
    """File with the shared secret; absent: the site's secret `broker-authority`, made on first use."""
    client_ids: ClientIdRule = ClientIdRule.FIRST_COME
    """How a client id is kept for its owner."""
    client_ids_file: Path | None = None
    """SQLite file with the owners of client ids; absent: `authority/client-ids.db` in the state folder."""
    client_ids_per_tenant: int = Field(default=10_000, ge=1)
    """Client ids remembered for one tenant; the one unused for longest is forgotten first."""
    check_interval_s: float = Field(default=1.0, gt=0)
    """Time between looks for connections whose right has ended."""
    end_sessions_at: dict[EngineName, str] = Field(default_factory=dict)
    """MQTT listener (HOST:PORT) by engine (rabbitmq, emqx, vernemq, mosquitto), where connections are ended whose right
    has ended; an engine without one keeps them until they end by themselves."""
    node: tuple[EngineNode, ...] = ()
    """Nodes of the engine that are announced; they need `engine`, and a name in `[broker.instance]`."""
    rabbitmq: RabbitSettings = RabbitSettings()
    mosquitto: MosquittoSettings = MosquittoSettings()

    @field_validator("end_sessions_at")
    @classmethod
    def _are_endpoints(cls, value: dict[EngineName, str]) -> dict[EngineName, str]:
        for endpoint in value.values():
            check_endpoint(endpoint)
        return value

    @model_validator(mode="after")
    def _nodes_have_an_engine(self) -> Self:
        if self.node and self.engine is None:
            raise ValueError("node: whose nodes? Set engine")
        return self
