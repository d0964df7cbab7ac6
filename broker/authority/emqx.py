"""Request format of EMQX 5: HTTP authenticator and HTTP authoriser, JSON both ways (verified against documentation).

From 5.8 on the answer to a login carries the client's whole list of rights and the end of its token, and EMQX asks no
more. Earlier releases ask `authz` for every topic. A status other than 200 means "ignore" to EMQX, and it asks the
next in its chain; so "deny" is said with 200.
"""

from typing import Final

from broker.authority.admissions import Admissions, Admitted
from broker.authority.fields import JsonObject, json_response, object_of, text
from broker.authority.http import Request, Response
from broker.policy import Permissions

__all__ = ["DENY", "EmqxHooks", "acl_of"]

ENGINE: Final = "emqx"
DENY: Final = json_response({"result": "deny"})
ALLOW: Final = json_response({"result": "allow"})


def acl_of(permissions: Permissions) -> list[JsonObject]:
    """The rights as EMQX's rules, first match wins, the rest denied."""
    rules: list[JsonObject] = []
    for action, filters in (("publish", permissions.publish), ("subscribe", permissions.subscribe)):
        rules += [{"permission": "allow", "action": action, "topic": allowed.text} for allowed in filters]
    return [*rules, {"permission": "deny", "action": "all", "topic": "#"}]


class EmqxHooks:
    """`authn` and `authz`.

    Args:
        admissions: judges.
    """

    def __init__(self, admissions: Admissions) -> None:
        self._admissions = admissions

    async def answer(self, question: str, request: Request) -> Response:
        """`question` is `authn` or `authz`; anything else is denied."""
        match question:
            case "authn":
                return await self._authenticate(object_of(request))
            case "authz":
                return self._authorise(object_of(request))
        return DENY

    async def _authenticate(self, fields: JsonObject) -> Response:
        admitted = await self._admissions.admit(
            ENGINE, text(fields, "clientid"), text(fields, "username"), text(fields, "password")
        )
        if not isinstance(admitted, Admitted):
            return DENY
        principal = admitted.principal
        answer: dict[str, object] = {
            "result": "allow",
            "is_superuser": False,
            "client_attrs": {"tenant": principal.tenant.value},
            "acl": acl_of(admitted.permissions),
        }
        if principal.expires_at is not None:
            answer["expire_at"] = int(principal.expires_at)
        return json_response(answer)

    def _authorise(self, fields: JsonObject) -> Response:
        rights = self._admissions.rights(ENGINE, text(fields, "clientid"), text(fields, "username"))
        topic = text(fields, "topic")
        match text(fields, "action"):
            case "publish":
                return ALLOW if rights.may_publish(topic) else DENY
            case "subscribe":
                return ALLOW if rights.may_subscribe(topic) else DENY
        return DENY
