"""Request format of RabbitMQ's `rabbitmq_auth_backend_http`: form fields in, `allow` or `deny` in text out, status 200.

RabbitMQ hands over a routing key, not a topic: `/` has become `.`, `+` has become `*`, and a `.` of the topic is not
told from a `/`. It lets a client publish to names with wildcards and matches `$` topics with `#`, so both are refused
here. It does not speak shared subscriptions: a filter in `$share/…` is refused instead of silently delivering nothing.
"""

from typing import Final

from broker.authority.admissions import Admissions, Admitted
from broker.authority.fields import Form, form_of
from broker.authority.http import Request, Response
from broker.authority.settings import RabbitSettings

__all__ = ["ALLOW", "DENY", "RabbitHooks", "topic_of_routing_key"]

ENGINE: Final = "rabbitmq"
ALLOW: Final = Response(body=b"allow")
DENY: Final = Response(body=b"deny")


def topic_of_routing_key(key: str) -> str:
    """The MQTT topic or filter behind an AMQP routing key."""
    return key.replace(".", "/").replace("*", "+")


class RabbitHooks:
    """The four questions.

    Args:
        admissions: judges.
        settings: the virtual host and the exchange that may be used.
    """

    def __init__(self, admissions: Admissions, settings: RabbitSettings) -> None:
        self._admissions = admissions
        self._settings = settings

    async def answer(self, question: str, request: Request) -> Response:
        """`question` is `user`, `vhost`, `resource` or `topic`; anything else is denied."""
        fields = form_of(request)
        match question:
            case "user":
                return await self._user(fields)
            case "vhost":
                return _text(fields.get("vhost") == self._settings.vhost and self._is_known(fields))
            case "resource":
                return _text(fields.get("vhost") == self._settings.vhost and self._may_use(fields))
            case "topic":
                return _text(fields.get("vhost") == self._settings.vhost and self._may(fields))
        return DENY

    async def _user(self, fields: Form) -> Response:
        """A login by other ways than MQTT carries no client id and is denied with that."""
        admitted = await self._admissions.admit(
            ENGINE, fields.get("client_id", ""), fields.get("username", ""), fields.get("password", "")
        )
        return _text(isinstance(admitted, Admitted))

    def _is_known(self, fields: Form) -> bool:
        return self._admissions.may_use(ENGINE, fields.get("client_id", ""), fields.get("username", ""))

    def _may_use(self, fields: Form) -> bool:
        """Its own queues, and the exchange for messages; another client's queue is another client's messages."""
        name, client_id = fields.get("name", ""), fields.get("client_id", "")
        if not self._is_known(fields):
            return False
        if fields.get("resource") == "queue":
            return name in (f"mqtt-subscription-{client_id}qos0", f"mqtt-subscription-{client_id}qos1")
        is_exchange = fields.get("resource") == "exchange" and name == self._settings.exchange
        return is_exchange and fields.get("permission") in ("read", "write")

    def _may(self, fields: Form) -> bool:
        """Publish to a topic, or subscribe to a filter."""
        client_id = fields.get("variable_map.client_id", "")
        rights = self._admissions.rights(ENGINE, client_id, fields.get("username", ""))
        topic = topic_of_routing_key(fields.get("routing_key", ""))
        if fields.get("name") != self._settings.exchange:
            return False
        match fields.get("permission"):
            case "write":
                return not ("+" in topic or "#" in topic) and rights.may_publish(topic)
            case "read":
                return not topic.startswith("$share/") and rights.may_subscribe(topic)
        return False


def _text(allowed: bool) -> Response:
    return ALLOW if allowed else DENY
