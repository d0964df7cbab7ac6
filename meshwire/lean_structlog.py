"""structlog without rich, which it imports for tracebacks that we do not use, and which takes longer than the rest."""

from __future__ import annotations

import sys

__all__ = ["structlog"]

_RICH = "rich"
_hidden = _RICH not in sys.modules
if _hidden:
    # What stands for None here can't be imported; structlog does without it then.
    sys.modules[_RICH] = None  # type: ignore[assignment]
try:
    import structlog
finally:
    if _hidden:
        del sys.modules[_RICH]
