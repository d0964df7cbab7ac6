"""Where a running broker is asked by commands of its site: a socket in the site's folder, for the folder's owner alone.

Whoever may write the files of users and roles may change them here, and nobody over the network. The kernel's lock on
`broker/in-use` tells who has the files: it ends with its holder, so that a broker that was killed is not taken for one
that runs, and two commands do not write at once.
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from broker.errors import BrokerNotReachable
from meshwire.site import Site

__all__ = ["PATIENCE_S", "PAUSE_S", "bound", "lock", "opened"]

PAUSE_S: Final = 0.02
"""Between two tries to get the lock."""
PATIENCE_S: Final = 10.0
"""For a command that works on the files, a broker that starts, and an answer; each takes far less."""


def lock(site: Site) -> int | None:
    """Takes the files; gives the descriptor that holds them until it is closed, or None: somebody else has them."""
    descriptor = os.open(site.path("broker", "in-use"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def opened(site: Site) -> socket.socket | None:
    """A connection to the broker; None: none listens. Raises BrokerNotReachable where one does and can't be reached."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_S)
    try:
        with _short_path(site) as path:
            connection.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise BrokerNotReachable(
            "the broker of this site can't be asked",
            evidence=f"{site.state_dir}: {error}",
            fix="run the command as the broker's user",
        ) from None
    return connection


def bound(site: Site) -> socket.socket:
    """The broker's end, to listen on; for the holder of the lock. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _short_path(site) as path:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            path.chmod(0o600)
    except OSError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _short_path(site: Site) -> Iterator[Path]:
    """A socket's path has at most 107 octets, a state folder's may have more."""
    folder = os.open(site.path("broker", "control.sock").parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{folder}/control.sock")
    finally:
        os.close(folder)
