"""Bodies that are kept as they are: JSON objects whose members nobody looks at.

What comes in has to be able to go out again as JSON in UTF-8: Python reads lone surrogates, NaN and Infinity, which
neither has (RFC 8259 sections 6 and 8.2).
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator

__all__ = ["JsonObject"]


def _goes_out_again(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text has half a character (a lone surrogate)") from None
    except ValueError:
        raise ValueError("NaN and Infinity are no numbers of JSON") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_goes_out_again)]
"""Any JSON object that can be answered as it came."""
