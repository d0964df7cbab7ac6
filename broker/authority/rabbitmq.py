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
AMQP: Final = "rabbitmq-amqp"
"""Logins over AMQP 1.0 have no client id; they are held by user name, apart from MQTT's."""
OWN_QUEUE: Final = "amq.gen-"
"""Names that RabbitMQ makes up, for queues that are exclusive to their connection."""
SESSION_QUEUE: Final = "mqtt-subscription-"
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
        """A login over AMQP 1.0 carries no client id: users with a password alone. It is asked about a second time,
        without the password, when the session begins: SASL PLAIN, the only mechanism, has proved it by then.
        """
        if "client_id" not in fields and "password" not in fields:
            return _text(self._is_known(fields))
        username, password = fields.get("username", ""), fields.get("password", "")
        engine, client_id = _identity(fields, "client_id")
        admitted = await self._admissions.admit(engine, client_id, username, password, by_password=engine == AMQP)
        return _text(isinstance(admitted, Admitted))

    def _is_known(self, fields: Form) -> bool:
        return self._admissions.may_use(*_identity(fields, "client_id"), fields.get("username", ""))

    def _may_use(self, fields: Form) -> bool:
        """Its own queues, those of addresses, and the exchange for messages; another client's queue is another client's
        messages.
        """
        name, client_id = fields.get("name", ""), fields.get("client_id", "")
        if not self._is_known(fields):
            return False
        if fields.get("resource") == "queue":
            if "client_id" not in fields:
                return self._may_use_over_amqp(name, fields)
            return name in (f"mqtt-subscription-{client_id}qos0", f"mqtt-subscription-{client_id}qos1")
        is_exchange = fields.get("resource") == "exchange" and name == self._settings.exchange
        return is_exchange and fields.get("permission") in ("read", "write")

    def _may_use_over_amqp(self, name: str, fields: Form) -> bool:
        """The queue RabbitMQ makes for one subscription, which is its connection's own; and to read, the queue of an
        address whose topics the user may subscribe to.
        """
        if name.startswith(OWN_QUEUE):
            return True
        if fields.get("permission") != "read" or name.startswith(SESSION_QUEUE):
            return False
        engine, client_id = _identity(fields, "client_id")
        rights = self._admissions.rights(engine, client_id, fields.get("username", ""))
        return rights.may_subscribe(topic_of_routing_key(name))

    def _may(self, fields: Form) -> bool:
        """Publish to a topic, or subscribe to a filter."""
        engine, client_id = _identity(fields, "variable_map.client_id")
        rights = self._admissions.rights(engine, client_id, fields.get("username", ""))
        topic = topic_of_routing_key(fields.get("routing_key", ""))
        if fields.get("name") != self._settings.exchange:
            return False
        match fields.get("permission"):
            case "write":
                return not ("+" in topic or "#" in topic) and rights.may_publish(topic)
            case "read":
                return not topic.startswith("$share/") and rights.may_subscribe(topic)
        return False


def _identity(fields: Form, where: str) -> tuple[str, str]:
    """(engine, client id) under which a login is remembered."""
    if where in fields:
        return ENGINE, fields[where]
    return AMQP, fields.get("username", "")


def _text(allowed: bool) -> Response:
    return ALLOW if allowed else DENY
