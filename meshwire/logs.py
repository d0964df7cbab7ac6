"""How the processes talk: structured lines on standard error, text on a terminal, JSON elsewhere.

This file decides levels and formats; what is logged is each component's matter. `MESHWIRE_LOG_FORMAT` may be
`text` or `json` to override the choice by terminal.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

import structlog

__all__ = ["configure_logging"]


def configure_logging(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send all log lines of this process to `stream` (default: standard error).

    Args:
        level: lowest level shown, a number of `logging`.
        stream: where lines go.
    """
    stream = stream or sys.stderr
    as_text = os.environ.get("MESHWIRE_LOG_FORMAT", "text" if stream.isatty() else "json") == "text"
    colors = as_text and stream.isatty() and not os.environ.get("NO_COLOR")
    renderer = (
        # A plain traceback: structlog's own shows local variables, and with them passwords and tokens.
        structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=32, exception_formatter=structlog.dev.plain_traceback)
        if as_text
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer] if not as_text else [*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    # Libraries that log by the standard library are heard only when they are loud: aiocoap, for one, says at
    # INFO and WARNING what a resource or the link has already told in the product's own words.
    logging.basicConfig(level=max(level, logging.ERROR), stream=stream, format="%(levelname)s %(name)s %(message)s")
