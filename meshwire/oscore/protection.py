"""One message: from plain to protected and back (RFC 8613 sections 4, 5 and 8). Pure.

Does: split options into inner and outer ones, build nonce and additional data, encrypt, decrypt. Does not: count
sequence numbers, or recognise replays (`context`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from meshwire.coap import CON, Message, MessageError, codes, decode, encode, options
from meshwire.oscore.errors import OscoreError, Reason
from meshwire.oscore.key import ALGORITHM, NONCE_OCTETS, OscoreKey
from meshwire.oscore.option import MAX_PARTIAL_IV_OCTETS, OscoreOption

__all__ = ["Protection", "RequestId", "Response"]

TAG_OCTETS: Final = 8
_VERSION: Final = 1
_OUTER: Final = frozenset(
    {options.URI_HOST, options.URI_PORT, options.HOP_LIMIT, options.PROXY_URI, options.PROXY_SCHEME, options.OSCORE}
)
"""Class U (section 4.1, table 5): for whoever is on the way. All others are encrypted; Observe is both."""

Options = tuple[tuple[int, bytes], ...]


@dataclass(slots=True)
class RequestId:
    """What binds an answer to its request, on both sides."""

    key_id: bytes
    partial_iv: bytes
    outer_code: int
    nonce_is_free: bool = field(default=False)
    """Whether the one answer that needs no sequence number of its own may still be given."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer without what belongs to the message layer."""

    code: int
    options: Options = ()
    payload: bytes = b""

    def option(self, number: int) -> bytes | None:
        """The first value of an option, or None."""
        for candidate, value in self.options:
            if candidate == number:
                return value
        return None


class Protection:
    """The cryptography of one key.

    Args:
        key: as one of the two parties has it.
    """

    def __init__(self, key: OscoreKey) -> None:
        self.key = key
        self._sender = AESCCM(key.sender_key, tag_length=TAG_OCTETS)
        self._recipient = AESCCM(key.recipient_key, tag_length=TAG_OCTETS)

    def protect_request(self, request: Message, number: bytes) -> tuple[Message, RequestId]:
        """The protected request; type, message ID and token stay (section 8.1)."""
        observe = request.option(options.OBSERVE)
        outer_code = codes.POST if observe is None else codes.FETCH
        request_id = RequestId(self.key.sender_id, number, outer_code)
        inner, outer = _split(request.options)
        ciphertext = self._encrypt(request.code, inner, request.payload, number, self.key.sender_id, request_id)
        header = OscoreOption(number, self.key.sender_id, self.key.id_context).encode()
        pairs = _with(outer, (options.OSCORE, header), None if observe is None else (options.OBSERVE, observe))
        return Message(request.mtype, outer_code, request.mid, request.token, pairs, ciphertext), request_id

    def open_request(self, request: Message, header: OscoreOption) -> tuple[Message, RequestId]:
        """What is inside of a request; its sequence number has not been looked at (section 8.2).

        Raises:
            OscoreError: MALFORMED or WRONG_KEY.
        """
        if header.partial_iv is None or request.code not in (codes.POST, codes.FETCH):
            raise OscoreError(Reason.MALFORMED)
        request_id = RequestId(self.key.recipient_id, header.partial_iv, request.code)
        code, pairs, payload = self._decrypt(request.payload, header.partial_iv, self.key.recipient_id, request_id)
        if not codes.is_request(code):
            raise OscoreError(Reason.MALFORMED)
        if request.uint(options.OBSERVE) is None:
            # Somebody on the way has made it a plain request (section 4.1.3.5.1).
            pairs = tuple(pair for pair in pairs if pair[0] != options.OBSERVE)
        outer = tuple(pair for pair in request.options if pair[0] in (options.URI_HOST, options.URI_PORT))
        return Message(request.mtype, code, request.mid, request.token, _with(pairs, *outer), payload), request_id

    def protect_response(self, response: Response, request_id: RequestId, number: bytes | None) -> Response:
        """The protected answer (section 8.3).

        Args:
            response: as it is meant.
            request_id: of the request.
            number: a sequence number of our own; None: the request's nonce is used, which may be done once.
        """
        observe = response.option(options.OBSERVE)
        inner = tuple((n, b"" if n == options.OBSERVE else value) for n, value in response.options)
        nonce_of = (request_id.key_id, request_id.partial_iv) if number is None else (self.key.sender_id, number)
        ciphertext = self._encrypt(response.code, inner, response.payload, nonce_of[1], nonce_of[0], request_id)
        header = OscoreOption(number).encode()
        pairs = _with((), (options.OSCORE, header), None if observe is None else (options.OBSERVE, observe))
        code = codes.CONTENT if request_id.outer_code == codes.FETCH else codes.CHANGED
        return Response(code, pairs, ciphertext)

    def open_response(self, response: Response, request_id: RequestId) -> tuple[Response, int | None]:
        """What is inside of an answer, and its own sequence number where it has one (section 8.4).

        Raises:
            OscoreError: UNPROTECTED, MALFORMED or WRONG_KEY.
        """
        value = response.option(options.OSCORE)
        if value is None:
            raise OscoreError(Reason.UNPROTECTED)
        header = OscoreOption.parse(value)
        if header.partial_iv is None:
            nonce_of, number = (request_id.key_id, request_id.partial_iv), None
        else:
            nonce_of = (self.key.recipient_id, header.partial_iv)
            number = int.from_bytes(header.partial_iv, "big")
        code, pairs, payload = self._decrypt(response.payload, nonce_of[1], nonce_of[0], request_id)
        if not codes.is_response(code):
            raise OscoreError(Reason.MALFORMED)
        observe = response.option(options.OBSERVE)
        inside = tuple(pair for pair in pairs if pair[0] != options.OBSERVE)
        if observe is not None:
            inside = _with(inside, (options.OBSERVE, observe))
        return Response(code, inside, payload), number

    # --- private

    def _encrypt(
        self, code: int, pairs: Options, payload: bytes, number: bytes, key_id: bytes, request_id: RequestId
    ) -> bytes:
        # The octets of a message from its options on (section 5.3).
        plaintext = bytes((code,)) + encode(Message(CON, code, 0, b"", pairs, payload))[4:]
        return self._sender.encrypt(self._nonce(key_id, number), plaintext, _additional_data(request_id))

    def _decrypt(
        self, ciphertext: bytes, number: bytes, key_id: bytes, request_id: RequestId
    ) -> tuple[int, Options, bytes]:
        if len(ciphertext) <= TAG_OCTETS:
            raise OscoreError(Reason.MALFORMED)
        try:
            plaintext = self._recipient.decrypt(self._nonce(key_id, number), ciphertext, _additional_data(request_id))
        except InvalidTag:
            raise OscoreError(Reason.WRONG_KEY) from None
        try:
            message = decode(b"\x40" + plaintext[:1] + b"\0\0" + plaintext[1:])
        except MessageError:
            raise OscoreError(Reason.MALFORMED) from None
        if any(n in _OUTER for n, _ in message.options):
            raise OscoreError(Reason.MALFORMED)
        return message.code, message.options, message.payload

    def _nonce(self, key_id: bytes, number: bytes) -> bytes:
        """Section 5.2."""
        padded = key_id.rjust(NONCE_OCTETS - 1 - MAX_PARTIAL_IV_OCTETS, b"\0")
        mask = bytes((len(key_id),)) + padded + number.rjust(MAX_PARTIAL_IV_OCTETS, b"\0")
        both = int.from_bytes(mask, "big") ^ int.from_bytes(self.key.common_iv, "big")
        return both.to_bytes(NONCE_OCTETS, "big")


def _additional_data(request_id: RequestId) -> bytes:
    """Section 5.4; there are no options of class I."""
    external = cbor2.dumps([_VERSION, [ALGORITHM], request_id.key_id, request_id.partial_iv, b""])
    return cbor2.dumps(["Encrypt0", b"", external])


def _split(pairs: Options) -> tuple[Options, Options]:
    inner = tuple(pair for pair in pairs if pair[0] not in _OUTER)
    outer = tuple(pair for pair in pairs if pair[0] in _OUTER)
    return inner, outer


def _with(pairs: Options, *more: tuple[int, bytes] | None) -> Options:
    return tuple(sorted((*pairs, *(pair for pair in more if pair is not None)), key=lambda pair: pair[0]))
