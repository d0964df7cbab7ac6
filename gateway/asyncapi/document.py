"""Putting the AsyncAPI 3 document together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from gateway.asyncapi.channels import CHANNELS, PARAMETERS, Channel, Way
from gateway.asyncapi.payloads import MESSAGES
from meshwire import __version__

__all__ = ["BrokerAddress", "asyncapi_document"]

MQTT_BINDING: Final = "0.2.0"
_PARAMETER: Final = re.compile(r"\{([a-z]+)\}")
_TOKEN: Final = {
    "type": "userPassword",
    "description": "A token (JWT) in the password field; the user name does not count. Its `sub` is the tenant, its"
    " `mqttScope` the roles. Users of the platform have a name and a password instead.",
}

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is."""

    host: str
    port: int
    scheme: str = "mqtt"
    """mqtt or mqtts."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def asyncapi_document(broker: BrokerAddress) -> Document:
    """The document (AsyncAPI 3.0.0), from the site's point of view: it *sends* what clients subscribe to."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "meshwire",
            "version": __version__,
            "description": "MQTT topics of a site. `x-roles` names roles of which a client needs one; a site may have"
            " roles of its own, for further topics, too.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/octet-stream",
        "servers": {
            "broker": {
                "host": str(broker),
                "protocol": broker.scheme,
                "protocolVersion": "5.0",
                "description": "MQTT 5.0 and 3.1.1.",
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            }
        },
        "channels": {name: _channel(channel) for name, channel in CHANNELS.items()},
        "operations": {
            f"{way.value}{name[0].upper()}{name[1:]}": _operation(name, channel, way)
            for name, channel in CHANNELS.items()
            for way in channel.roles
        },
        "components": {
            "messages": {name: kind.as_document() for name, kind in MESSAGES.items()},
            "parameters": {name: {"description": meaning} for name, meaning in PARAMETERS.items()},
            "securitySchemes": {"token": _TOKEN},
        },
    }


def _channel(channel: Channel) -> Document:
    document: Document = {
        "address": channel.address,
        "description": channel.description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in channel.messages},
    }
    names = _PARAMETER.findall(channel.address)
    if names:
        document["parameters"] = {name: {"$ref": f"#/components/parameters/{name}"} for name in names}
    return document


def _operation(name: str, channel: Channel, way: Way) -> Document:
    binding: Document = {"bindingVersion": MQTT_BINDING}
    if way is Way.SEND:
        binding |= {
            key: value for key, value in (("qos", channel.qos), ("retain", channel.retain)) if value is not None
        }
    return {
        "action": way.value,
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{message}"} for message in channel.messages],
        "bindings": {"mqtt": binding},
        "x-roles": [role.value for role in channel.roles[way]],
    }
