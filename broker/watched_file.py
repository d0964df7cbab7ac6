"""A file that other processes replace while the broker runs."""

from pathlib import Path

__all__ = ["WatchedFile"]


class WatchedFile:
    """Tells whether a file is another one than when it was last looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def has_changed(self) -> bool:
        """True once after each change; False while the file is absent."""
        try:
            status = self.path.stat()
        except OSError:
            return False
        now = (status.st_mtime_ns, status.st_size, status.st_ino)
        changed = now != self._seen
        self._seen = now
        return changed
