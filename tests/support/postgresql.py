"""A PostgreSQL server of its own for a test run: Debian's programs, a temporary folder, a free port on loopback."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from free_ports import free_port
from patience import PATIENCE_S

__all__ = ["PASSWORD", "USER", "PostgresServer", "programs"]

USER, PASSWORD = "registry", "correct horse"
_UNPRIVILEGED = ("postgres", "nobody")


def programs() -> Path | None:
    """The folder with initdb and postgres, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class PostgresServer:
    """Started when made, gone with its files after `stop`. The server refuses to run as root, so it does not."""

    def __init__(self) -> None:
        folder = programs()
        assert folder is not None
        self._numbers = itertools.count(1)
        self.folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self.port = free_port()
        self._as: dict[str, object] = {}
        if os.getuid() == 0:
            user = next(pwd.getpwnam(name) for name in _UNPRIVILEGED if _exists(name))
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        data = self.folder / "data"
        self._run(
            folder / "initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "-N"
        )
        self._log = self.folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [folder / "postgres", "-D", data, "-k", self.folder, "-h", "127.0.0.1", "-p", str(self.port), "-F"],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                **self._as,  # type: ignore[call-overload]
            )
        self._pg_isready = folder / "pg_isready"

    def wait(self) -> None:
        """Until it takes connections."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            ready = subprocess.run([self._pg_isready, "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "1"])
            if ready.returncode == 0:
                return
            assert self._process.poll() is None, f"postgres has ended:\n{self._log.read_text()}"
            # The program answers at once when nobody listens yet.
            time.sleep(0.05)
        raise AssertionError(f"postgres does not start:\n{self._log.read_text()}")

    def database(self) -> str:
        """The URL of a new, empty database, without the password."""
        import psycopg

        name = f"site{next(self._numbers)}"
        where = f"host=127.0.0.1 port={self.port} user={USER} password='{PASSWORD}' dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)  # "fast": does not wait for clients to go
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, *command: object) -> None:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            **self._as,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, done.stderr


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
