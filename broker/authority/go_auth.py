"""Request format of mosquitto-go-auth's HTTP backend, JSON or form (verified against documentation).

The answer suits all its response modes: the status says yes (200) or no (403), and the body says it in JSON. A 5xx
would make it ask its next backend. Nobody is a superuser.
"""

from collections.abc import Mapping
from typing import Final

from broker.authority.admissions import Admissions, Admitted
from broker.authority.fields import form_of, json_response, object_of
from broker.authority.http import Request, Response
from broker.policy import Permissions

__all__ = ["DENY", "GoAuthHooks"]

ENGINE: Final = "mosquitto"
OK: Final = json_response({"ok": True, "error": ""})
DENY: Final = json_response({"ok": False, "error": "denied"}, 403)


class GoAuthHooks:
    """`user` and `acl`; `superuser` is always denied.

    Args:
        admissions: judges.
    """

    def __init__(self, admissions: Admissions) -> None:
        self._admissions = admissions

    async def answer(self, question: str, request: Request) -> Response:
        fields = _fields(request)
        username, client_id = str(fields.get("username", "")), str(fields.get("clientid", ""))
        match question:
            case "user":
                admitted = await self._admissions.admit(ENGINE, client_id, username, str(fields.get("password", "")))
                return OK if isinstance(admitted, Admitted) else DENY
            case "acl":
                rights = self._admissions.rights(ENGINE, client_id, username)
                allowed = _may(rights, str(fields.get("acc", "")), str(fields.get("topic", "")))
                return OK if allowed else DENY
        return DENY


def _may(rights: Permissions, access: str, topic: str) -> bool:
    match access:
        case "1":  # delivery
            return rights.may_receive(topic)
        case "2":  # publish
            return rights.may_publish(topic)
        case "3":  # both
            return rights.may_receive(topic) and rights.may_publish(topic)
        case "4":  # subscribe; the topic is the filter
            return rights.may_subscribe(topic)
    return False


def _fields(request: Request) -> Mapping[str, object]:
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return form_of(request)
    return object_of(request)
