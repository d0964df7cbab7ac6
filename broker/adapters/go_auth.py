"""Mosquitto with the mosquitto-go-auth plug-in: its configuration from a few facts. Pure; verified against
documentation.
"""

from dataclasses import dataclass

__all__ = ["GoAuthConf", "go_auth_conf"]


@dataclass(frozen=True, slots=True)
class GoAuthConf:
    """What the file is made from.

    Args:
        authority_host, authority_port: of the authority.
        secret: the authority's.
        port: MQTT listener.
        plugin: the shared object.
    """

    secret: str
    authority_host: str = "127.0.0.1"
    authority_port: int = 8099
    port: int = 1883
    plugin: str = "/etc/mosquitto/go-auth.so"


def go_auth_conf(conf: GoAuthConf) -> str:
    """`mosquitto.conf`. No superuser question, and no cache: a revoked right holds at the next message."""
    hooks = f"/{conf.secret}/hooks/mosquitto"
    lines = [
        "# verified against documentation",
        f"listener {conf.port} 127.0.0.1",
        "allow_anonymous false",
        "max_queued_messages 50000",
        "max_inflight_messages 0",
        "set_tcp_nodelay true",
        f"auth_plugin {conf.plugin}",
        "auth_opt_backends http",
        "auth_opt_disable_superuser true",
        "auth_opt_cache false",
        f"auth_opt_http_host {conf.authority_host}",
        f"auth_opt_http_port {conf.authority_port}",
        f"auth_opt_http_getuser_uri {hooks}/user",
        f"auth_opt_http_aclcheck_uri {hooks}/acl",
        "auth_opt_http_params_mode json",
        "auth_opt_http_response_mode status",
        "auth_opt_http_timeout 5",
    ]
    return "\n".join(lines) + "\n"
