"""`meshwire demo --headless --json` as a process whose events are read one by one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from patience import PATIENCE_S

__all__ = ["MESHWIRE", "Demo", "demo"]

MESHWIRE = Path(sys.executable).parent / "meshwire"


class Demo:
    """A demo that runs; `demo` makes it."""

    def __init__(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        self.process = process
        self._log = log

    def event(self) -> dict[str, Any]:
        """The next one."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the demo has ended with {self.process.wait(PATIENCE_S)}:\n{self.talk()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Events up to and with the first that is wanted."""
        events = [self.event()]
        while not wanted(events[-1]):
            events.append(self.event())
        return events

    def end(self, how: signal.Signals = signal.SIGTERM) -> list[dict[str, Any]]:
        """Ask it to end, which it does with status 0; gives what it said last."""
        self.process.send_signal(how)
        last = self.rest()
        assert self.process.returncode == 0, self.talk()
        return last

    def rest(self) -> list[dict[str, Any]]:
        """What it says until it ends by itself."""
        out, _ = self.process.communicate(timeout=2 * PATIENCE_S)
        return [json.loads(line) for line in out.splitlines()]

    def talk(self) -> str:
        """All that it has written for people."""
        self._log.seek(0)
        return self._log.read()


@contextmanager
def demo(*options: str, environment: Mapping[str, str]) -> Iterator[Demo]:
    """As long as the block runs; what is added to the environment is the test's."""
    command = [str(MESHWIRE), "demo", "--headless", "--json", *options]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=log, text=True)
        running = Demo(process, log)
        try:
            yield running
        except BaseException as error:
            error.add_note(f"the demo said:\n{running.talk()}")
            raise
        finally:
            process.kill()
            process.communicate()
