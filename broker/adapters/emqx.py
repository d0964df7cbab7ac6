"""EMQX 5: its configuration from a few facts. Pure; verified against documentation."""

from dataclasses import dataclass

__all__ = ["EmqxConf", "emqx_conf"]


@dataclass(frozen=True, slots=True)
class EmqxConf:
    """What the file is made from.

    Args:
        authority_url: of the authority, without its secret.
        secret: the authority's.
        port: MQTT listener.
        max_queued_messages: bound of a client's queue; the oldest is dropped.
        session_expiry_s: how long a session outlives its connection.
    """

    authority_url: str
    secret: str
    port: int = 1883
    max_queued_messages: int = 50_000
    session_expiry_s: int = 604_800


_AUTHENTICATION = """\
# verified against documentation (EMQX 5.8)
authentication = [
  {
    mechanism = password_based
    backend = http
    method = post
    url = "%(url)s/hooks/emqx/authn"
    headers { "content-type" = "application/json", "authorization" = "Bearer %(secret)s" }
    body {
      username = "${username}"
      password = "${password}"
      clientid = "${clientid}"
      peerhost = "${peerhost}"
    }
    connect_timeout = "5s"
    request_timeout = "5s"
  }
]
"""
_AUTHORISATION = """
# From 5.8 on the list of rights comes with the login; earlier releases ask for each topic.
authorization {
  no_match = deny
  deny_action = disconnect
  cache { enable = false }
  sources = [
    {
      type = http
      enable = true
      method = post
      url = "%(url)s/hooks/emqx/authz"
      headers { "content-type" = "application/json", "authorization" = "Bearer %(secret)s" }
      body {
        username = "${username}"
        clientid = "${clientid}"
        action = "${action}"
        topic = "${topic}"
      }
    }
  ]
}
"""
_REST = """
mqtt {
  max_mqueue_len = %(queue)d
  mqueue_store_qos0 = false
  session_expiry_interval = "%(expiry)ds"
  max_packet_size = "1MB"
}

listeners.tcp.default { bind = "127.0.0.1:%(port)d" }
listeners.ssl.default { enable = false }
listeners.ws.default { enable = false }
listeners.wss.default { enable = false }
"""


def emqx_conf(conf: EmqxConf) -> str:
    """`emqx.conf` (HOCON). An authenticator that can't be reached lets no one in: it is the last of its chain."""
    values = {
        "url": conf.authority_url,
        "secret": conf.secret,
        "queue": conf.max_queued_messages,
        "expiry": conf.session_expiry_s,
        "port": conf.port,
    }
    return (_AUTHENTICATION + _AUTHORISATION + _REST) % values
