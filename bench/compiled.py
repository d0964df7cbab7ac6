"""The C programs of the benchmarks, compiled here and now, into a folder that is removed at the end of the process."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["Unobtainable", "compiled"]

COMPILE_S: Final = 60.0
HERE: Final = Path(__file__).parent


class Unobtainable(Exception):
    """Something can't be had on this machine; the message says why."""


@functools.cache
def compiled(source: str) -> str:
    """The path of the program that `source`, a file beside this one, becomes.

    Raises:
        Unobtainable: there is no compiler, or it fails.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unobtainable("there is no C compiler; do: apt-get install gcc libc6-dev")
    program = str(Path(_folder().name, Path(source).stem))
    command = [compiler, "-O2", "-o", program, str(HERE / source)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_S)
    except (subprocess.SubprocessError, OSError) as error:
        raise Unobtainable(f"{source} can't be compiled: {type(error).__name__}") from None
    return program


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="meshwire-bench-")
