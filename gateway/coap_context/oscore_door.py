"""OSCORE (RFC 8613) between clients and the gateway: messages are unprotected before, protected after the handler.

A request that carries the OSCORE option and is for the gateway itself is opened with the context that its key id
names; what is inside is handled as a request of the party that the context was made for. Outer options count for
nothing: whoever is on the way could have changed them. So the device is named inside: `/devices/{mac}/…`, or an inner
Proxy-Uri. A proxied request with OSCORE is between client and device, and passes untouched.

Contexts are folders in aiocoap's own format (`secret.json`, `settings.json`, `sequence.json`); one belongs to one
running gateway.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import structlog
from aiocoap import error, oscore
from aiocoap.message import Direction

from gateway.addresses import Address
from gateway.coap_context.translation import to_ours, to_theirs
from gateway.errors import CredentialError
from gateway.exchange import GiveUp, Handler, Reply, Response
from gateway.statistics import Event, Statistics
from gateway.target import is_proxied
from meshwire.coap import Message, codes, options

__all__ = ["OscoreContext", "OscoreDoor", "load"]

_UNKNOWN: Final = Response(codes.UNAUTHORIZED, b"Security context not found", ((options.MAX_AGE, b""),))
_REPLAY: Final = Response(codes.UNAUTHORIZED, b"Replay detected", ((options.MAX_AGE, b""),))
_UNREADABLE: Final = Response(codes.BAD_OPTION, b"Failed to decode COSE", ((options.MAX_AGE, b""),))
_INVALID: Final = Response(codes.BAD_REQUEST, b"Decryption failed", ((options.MAX_AGE, b""),))
"""RFC 8613 section 8.2."""
_FILES: Final = ("secret.json", "settings.json")
_KEYS: Final = ("secret", "sender-id", "recipient-id")
_SEQUENCE_MASK: Final = 0xFFFFFF

_log = structlog.get_logger(__name__)

# aiocoap is not annotated; these are the calls into it, named once.
_open_folder: Callable[..., Any] = oscore.FilesystemSecurityContext
_verify_start: Callable[[Any], dict[int, bytes]] = oscore.verify_start


@dataclass(frozen=True, slots=True)
class OscoreContext:
    """One security context: what it is called, and aiocoap's state of it."""

    name: str
    state: Any

    @property
    def security(self) -> str:
        """`Address.security` of what comes in under it."""
        return f"oscore {self.name}"


def load(name: str, folder: Path) -> OscoreContext:
    """Open the context in a folder, which then belongs to this process.

    Raises:
        CredentialError: it can't be read, or another process has it.
    """
    try:
        # Before aiocoap does: it can't let go of a folder that it has taken and can't read.
        _check(folder)
        return OscoreContext(name, _open_folder(str(folder)))
    except Exception as failure:
        raise CredentialError(
            f"the OSCORE context {name} can't be used",
            evidence=f"{folder}: {failure or type(failure).__name__}",
            fix="the folder needs secret.json with secret_hex and settings.json with sender-id_hex and "
            "recipient-id_hex, writable by this user, and no other program may have it open",
        ) from None


def _check(folder: Path) -> None:
    known = {key for file in _FILES if (path := folder / file).exists() for key in json.loads(path.read_text())}
    missing = [key for key in _KEYS if not known & {key, f"{key}_hex", f"{key}_ascii"}]
    if missing:
        raise ValueError(f"{' and '.join(_FILES)} lack {', '.join(missing)}")


class OscoreDoor:
    """See the module's text.

    Args:
        handler: takes what is inside, and everything that is not protected.
        contexts: told apart by their recipient id and id context.
        statistics: counted here.
    """

    def __init__(self, handler: Handler, contexts: Iterable[OscoreContext], statistics: Statistics) -> None:
        self._handler = handler
        self._statistics = statistics
        self._by_id = {(one.state.recipient_id, one.state.id_context): one for one in contexts}

    def __call__(self, request: Message, source: Address, reply: Reply) -> GiveUp | None:
        """Answer one request."""
        if request.option(options.OSCORE) is None or is_proxied(request):
            return self._handler(request, source, reply)
        protected = to_theirs(request.code, request.options, request.payload)
        protected.direction = Direction.INCOMING
        try:
            context, inner, identifiers = self._unprotect(protected)
        except _Refused as refusal:
            self._statistics.count(Event.SESSION, "refused")
            _log.warning("an OSCORE request was refused", source=str(source), reason=str(refusal))
            reply(refusal.response)
            return None
        opened = replace(to_ours(inner), mtype=request.mtype, mid=request.mid, token=request.token)
        sender = context.state.context_for_response()

        def protect(response: Response) -> None:
            message = to_theirs(response.code, response.options, response.payload)
            outer, _ = sender.protect(message, identifiers)
            if not response.last:
                outer.opt.observe = sender.sender_sequence_number & _SEQUENCE_MASK
            ours = to_ours(outer)
            reply(Response(ours.code, ours.payload, ours.options, response.last))

        return self._handler(opened, replace(source, security=context.security), protect)

    def _unprotect(self, protected: Any) -> tuple[OscoreContext, Any, Any]:
        try:
            bag = _verify_start(protected)
        except (error.Error, ValueError, IndexError, UnboundLocalError) as failure:
            raise _Refused(_UNREADABLE, str(failure)) from None
        context = self._by_id.get((bag.get(oscore.COSE_KID, b""), bag.get(oscore.COSE_KID_CONTEXT)))
        if context is None:
            raise _Refused(_UNKNOWN, "no such context")
        try:
            inner, identifiers = context.state.unprotect(protected)
        except oscore.ReplayErrorWithEcho as failure:
            # Not seen since the gateway started: the client has to show that it is there now (RFC 8613 appendix B.1.2).
            echo = to_ours(failure.to_message())
            raise _Refused(Response(echo.code, echo.payload, echo.options), "asked for an echo") from None
        except oscore.ReplayError:
            raise _Refused(_REPLAY, "replay") from None
        except oscore.DecodeError:
            raise _Refused(_UNREADABLE, "not decodable") from None
        except (error.Error, ValueError, IndexError):
            raise _Refused(_INVALID, "not of this context") from None
        return context, inner, identifiers


class _Refused(Exception):
    """A protected request is not taken; carries the answer, which tells nothing of what is inside."""

    def __init__(self, response: Response, reason: str) -> None:
        super().__init__(reason)
        self.response = response
