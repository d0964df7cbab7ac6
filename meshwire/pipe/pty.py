"""A pseudo-terminal as a Pipe: the board's end of a serial line that any terminal program can open by path."""

from __future__ import annotations

import os
import tty
from contextlib import suppress
from pathlib import Path

from meshwire.pipe.descriptor import DescriptorPipe

__all__ = ["PtyPipe", "open_pty"]


class PtyPipe(DescriptorPipe):
    """The master side. The other side is `peer_path`, to be opened like a serial port, closed and re-opened at will.

    This end keeps the slave open itself: a Linux master answers EIO while no slave is open, and that would be an end
    where there is only a peer that has not come yet.
    """

    def __init__(self, master: int, slave: int, link: Path | None) -> None:
        self.peer_path = os.ttyname(slave)
        self.link = link
        self._slave = slave
        super().__init__(master, f"pty:{link or self.peer_path}", self._give_back)
        self._master = master

    def _give_back(self) -> None:
        if self.link is not None:
            with suppress(OSError):
                # Another process may have put its own pty there in the meantime; that link is not ours to remove.
                if os.readlink(self.link) == self.peer_path:  # noqa: PTH115 - compares text, not files
                    self.link.unlink()
        os.close(self._slave)
        os.close(self._master)


def open_pty(link: str | None = None) -> PtyPipe:
    """A new pseudo-terminal in raw mode.

    Args:
        link: path of a symlink to make, pointing to the other side; replaced atomically if it is a symlink already, and
            removed when the pipe is closed.

    Raises:
        FileExistsError: `link` is there and is not a symlink.
        OSError: no more pseudo-terminals, or the link cannot be made.
    """
    master, slave = os.openpty()
    try:
        tty.setraw(slave)
        path = Path(link) if link is not None else None
        if path is not None:
            _point(path, os.ttyname(slave))
        return PtyPipe(master, slave, path)
    except BaseException:
        os.close(slave)
        os.close(master)
        raise


def _point(link: Path, target: str) -> None:
    """Make `link` point to `target` in one step: whoever opens it sees the old or the new one, never neither."""
    if link.exists() and not link.is_symlink():
        raise FileExistsError(f"{link} exists and is not a symbolic link")
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
