"""The commands' side: asks the broker that runs on the site's folder; while none does, works on the files itself."""

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from broker import errors
from broker.administration import door
from broker.administration.acts import Rows, file_failures_told
from broker.administration.requests import Envelope, Request
from broker.errors import BrokerError, BrokerNotReachable
from meshwire.logs import tell
from meshwire.site import Site

__all__ = ["ask"]

_KINDS: Final[dict[str, type[BrokerError]]] = {
    kind.__name__: kind for kind in (errors.UsersFileError, errors.RolesFileError, errors.AddressError)
}


def ask(site: Site, file: Path, request: Request, otherwise: Callable[[], Rows]) -> Rows:
    """The answer to a request.

    Args:
        file: that the request is about. A broker of the folder that has another one is not asked.
        otherwise: does it on the file.

    Raises:
        BrokerError: it can't be done, in the same words either way.
        BrokerNotReachable: a broker runs, and does not answer.
    """
    end = time.monotonic() + door.PATIENCE_S
    while True:
        connection = door.opened(site)
        if connection is not None:
            answer = _exchange(connection, Envelope(file=file.absolute(), request=request))
            if "elsewhere" not in answer:
                return _rows(answer)
            with file_failures_told():
                return otherwise()
        descriptor = door.lock(site)
        if descriptor is not None:
            try:
                with file_failures_told():
                    return otherwise()
            finally:
                os.close(descriptor)
        if time.monotonic() > end:
            raise BrokerNotReachable(
                "another command, or a broker that starts, holds this site's files",
                evidence=str(site.state_dir),
                fix="see `ps`, end it, and try again",
            )
        time.sleep(door.PAUSE_S)


def _exchange(connection: socket.socket, envelope: Envelope) -> dict[str, Any]:
    try:
        with connection, connection.makefile("rwb") as stream:
            stream.write(envelope.model_dump_json().encode() + b"\n")
            stream.flush()
            answer: dict[str, Any] = json.loads(stream.readline())
    except (OSError, ValueError) as error:
        raise BrokerNotReachable(
            "the broker of this site does not answer", evidence=str(error), fix="look into its log; try again"
        ) from None
    return answer


def _rows(answer: dict[str, Any]) -> Rows:
    if (told := answer.get("error")) is not None:
        kind = _KINDS.get(told.pop("kind"), BrokerError)
        raise kind(told.pop("what"), **told)
    if dropped := answer.get("dropped"):
        tell(f"{dropped} waiting messages dropped")
    rows: Rows = answer["rows"]
    return rows
