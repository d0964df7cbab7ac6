"""VerneMQ: its configuration from a few facts. Pure; verified against documentation."""

from dataclasses import dataclass
from typing import Final

__all__ = ["HOOKS", "VerneConf", "vernemq_conf"]

HOOKS: Final = (
    "auth_on_register",
    "auth_on_publish",
    "auth_on_subscribe",
    "auth_on_register_m5",
    "auth_on_publish_m5",
    "auth_on_subscribe_m5",
)
"""Both families: without the `_m5` hooks a client of MQTT 5 would not be asked about."""


@dataclass(frozen=True, slots=True)
class VerneConf:
    """What the file is made from.

    Args:
        authority_url: of the authority, with its secret, without `/hooks`.
        port: MQTT listener.
        max_queued_messages: bound of a client's queue; the newest is dropped.
    """

    authority_url: str
    port: int = 1883
    max_queued_messages: int = 50_000


def vernemq_conf(conf: VerneConf) -> str:
    """`vernemq.conf`."""
    lines = [
        "# verified against documentation",
        "allow_anonymous = off",
        "# A second connection takes over; the authority keeps client ids for their owners.",
        "allow_multiple_sessions = off",
        "plugins.vmq_passwd = off",
        "plugins.vmq_acl = off",
        "plugins.vmq_webhooks = on",
    ]
    for number, hook in enumerate(HOOKS, 1):
        lines += [f"vmq_webhooks.hook{number}.hook = {hook}"]
        lines += [f"vmq_webhooks.hook{number}.endpoint = {conf.authority_url}/hooks/vernemq"]
        if "publish" in hook:
            lines += [f"vmq_webhooks.hook{number}.no_payload = on"]
    lines += [
        f"max_offline_messages = {conf.max_queued_messages}",
        f"max_online_messages = {conf.max_queued_messages}",
        "persistent_client_expiration = 1w",
        "max_message_size = 1048576",
        f"listener.tcp.default = 127.0.0.1:{conf.port}",
        "listener.tcp.default.allowed_protocol_versions = 3,4,5",
    ]
    return "\n".join(lines) + "\n"
