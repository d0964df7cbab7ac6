"""How the processes talk: structured lines on standard error, text on a terminal, JSON elsewhere.

This file decides levels and formats; what is logged is each component's matter. `MESHWIRE_LOG_FORMAT` may be
`text` or `json` to override the choice by terminal. With `json` every line of a server on standard error is one JSON
object, its words about start and end included; without the variable those stay text, for who waits for them.
`MESHWIRE_LOG_LEVEL` sets the lowest level, also of worker processes.

At DEBUG there is a line for each message and request: who has one asks `tells_messages` before building it, so that
nothing is paid for it otherwise. The fields are the same everywhere; docs/reference/logs.md names them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, TextIO

from meshwire.lean_structlog import structlog

__all__ = ["LEVEL", "LEVELS", "configure_logging", "tell", "tells_messages"]


FORMAT: Final = "MESHWIRE_LOG_FORMAT"
LEVEL: Final = "MESHWIRE_LOG_LEVEL"
LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_lowest = logging.INFO


def tell(line: str, level: str = "info") -> None:
    """Words of a process about itself on standard error: as they are, or as an object where the log is to be JSON."""
    is_json = os.environ.get(FORMAT) == "json"
    print(_object(line, level) if is_json else line, file=sys.stderr, flush=True)  # noqa: T201


def _object(event: str, level: str, at_s: float | None = None, **more: str) -> str:
    at = datetime.now(UTC) if at_s is None else datetime.fromtimestamp(at_s, UTC)
    timestamp = at.isoformat().replace("+00:00", "Z")
    return json.dumps({"event": event, "level": level, "timestamp": timestamp, **more}, ensure_ascii=False)


def _stamped(
    _logger: structlog.typing.WrappedLogger, _name: str, line: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    second, microsecond = divmod(time.time_ns() // 1_000, 1_000_000)
    line["timestamp"] = f"{_to_the_second(second)}.{microsecond:06}Z"
    return line


@lru_cache(maxsize=1)
def _to_the_second(second: int) -> str:
    """Remembered: a server in trouble writes thousands of lines a second."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, default=repr)
"""Made once: a busy broker writes two lines for each connection."""


def _rendered(_logger: structlog.typing.WrappedLogger, _name: str, line: structlog.typing.EventDict) -> str:
    return _ENCODER.encode(line)


class _Lines(logging.Formatter):
    """What libraries log by the standard library, one JSON object a line, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        more = {"logger": record.name}
        if record.exc_info:
            more["exception"] = self.formatException(record.exc_info)
        return _object(record.getMessage(), record.levelname.lower(), record.created, **more)


def tells_messages() -> bool:
    """Whether a line for each message is wanted."""
    return _lowest <= logging.DEBUG


def configure_logging(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send all log lines of this process to `stream` (default: standard error).

    Args:
        level: lowest level shown, a number of `logging`; `MESHWIRE_LOG_LEVEL` is stronger.
        stream: where lines go.
    """
    global _lowest
    _lowest = level = LEVELS.get(os.environ.get(LEVEL, "").lower(), level)
    stream = stream or sys.stderr
    as_text = os.environ.get(FORMAT, "text" if stream.isatty() else "json") == "text"
    colors = as_text and stream.isatty() and not os.environ.get("NO_COLOR")
    renderer: structlog.typing.Processor = (
        # A plain traceback: structlog's own shows local variables, and with them passwords and tokens.
        structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=32, exception_formatter=structlog.dev.plain_traceback)
        if as_text
        else _rendered
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,  # whose line it is, where only the caller knows
        structlog.processors.add_log_level,
        _stamped,
    ]
    writer = structlog.WriteLogger(stream)  # a line goes out in one call, and all loggers share it
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer] if not as_text else [*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    # Libraries that log by the standard library are heard only when they are loud: aiocoap, for one, says at
    # INFO and WARNING what a resource or the link has already told in the product's own words.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s") if as_text else _Lines())
    logging.basicConfig(level=max(level, logging.ERROR), handlers=[handler])
    logging.captureWarnings(not as_text)
