"""Mosquitto's configuration file from a few facts. Pure."""

from dataclasses import dataclass
from typing import Final

__all__ = ["PLUGIN", "MosquittoConf", "mosquitto_conf"]

PLUGIN: Final = "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so"
"""Where Debian's package puts it on amd64."""


@dataclass(frozen=True, slots=True)
class MosquittoConf:
    """What the file is made from.

    Args:
        address, port: the listener of tenants.
        internal_port: the listener of internal users (gateway, authority), loopback only; 0: none.
        dynsec_file: users and roles; must be writable for Mosquitto's user.
        persistence_dir: with a `/` at its end.
        plugin: the shared object.
        max_queued_messages: bound of a client's queue; the newest is dropped.
        max_packet_octets: largest packet, also before the login.
    """

    address: str = "127.0.0.1"
    port: int = 1883
    internal_port: int = 1884
    dynsec_file: str = "/var/lib/mosquitto/dynamic-security.json"
    persistence_dir: str = "/var/lib/mosquitto/"
    plugin: str = PLUGIN
    max_queued_messages: int = 50_000
    max_packet_octets: int = 1_048_576


def mosquitto_conf(conf: MosquittoConf) -> str:
    """The configuration. On the tenants' listener the client id *is* the user name, so that a session belongs to its
    user; internal users, who have several connections each, have a listener on the loopback.
    """
    lines = [
        "per_listener_settings false",
        "allow_anonymous false",
        f"plugin {conf.plugin}",
        f"plugin_opt_config_file {conf.dynsec_file}",
        "",
        "persistence true",
        f"persistence_location {conf.persistence_dir}",
        "autosave_interval 60",
        "persistent_client_expiration 7d",
        "",
        f"max_queued_messages {conf.max_queued_messages}",
        "queue_qos0_messages false",
        "# 0: a bound here would also stop publishers that have many QoS 2 messages on the way.",
        "max_inflight_messages 0",
        f"max_packet_size {conf.max_packet_octets}",
        "set_tcp_nodelay true",
        "",
        f"listener {conf.port} {conf.address}",
        "use_username_as_clientid true",
    ]
    if conf.internal_port:
        lines += ["", f"listener {conf.internal_port} 127.0.0.1"]
    return "\n".join(lines) + "\n"
