"""`POST /exchange`: a token for a short-lived user of Mosquitto. The token itself is the caller's credential."""

from typing import Final

from broker.accounts import Accounts
from broker.adapters.mosquitto.tokens import TokenExchange
from broker.authority.admissions import Logins
from broker.authority.fields import json_response, object_of, text
from broker.authority.http import Request, Response
from meshwire.identity import LoginKind, Principal

__all__ = ["DENY", "Exchange"]

DENY: Final = json_response({"error": "denied"}, 403)


class Exchange:
    """Answers `{"token", "clientId"}` with `{"username", "password", "clientId", "expiresAt"}`.

    Args:
        logins: verifies the token.
        tokens: makes the user.
        accounts: which accounts are served; None: all. A user that was made holds until its token ends.
    """

    def __init__(self, logins: Logins, tokens: TokenExchange, accounts: Accounts | None = None) -> None:
        self._logins = logins
        self._tokens = tokens
        self._accounts = accounts

    async def answer(self, request: Request) -> Response:
        """403 for whatever does not hold."""
        fields = object_of(request)
        token = text(fields, "token").encode()
        login = self._logins.at_once(None, token or None)
        if login is None:
            login = await self._logins.verify("", token)
        if request.method != "POST" or not isinstance(login, Principal) or login.kind is not LoginKind.TOKEN:
            return DENY
        if self._accounts is not None:
            self._accounts.reload()
            if self._accounts.refusal(login, None) is not None:
                return DENY
        user = await self._tokens.exchange(login, text(fields, "clientId"))
        return json_response(
            {
                "username": user.username,
                "password": user.password,
                "clientId": user.client_id,
                "expiresAt": int(user.expires_at),
            }
        )
