"""What brokers are told of accounts: one document in the site's folder, replaced as a whole.

`{"schema_version": 1, "revision": N, "accounts": {ID: {"instance": NAME or null, "options": ["plain", …]}}}`. A broker
with an instance name looks at the file every second; an account that is not in it, or not assigned to it, is refused.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.messaging.rules import Option, Standing
from meshwire.site import Site

__all__ = ["SCHEMA_VERSION", "accounts_path", "document", "publish"]

SCHEMA_VERSION: Final = 1


def accounts_path(site: Site) -> Path:
    """Where the document is."""
    return site.path("messaging", "accounts.json")


def document(standings: Mapping[str, Standing], revision: int) -> str:
    """The document.

    Args:
        standings: by account.
        revision: of the database that it was made from.
    """
    accounts = {
        id: {
            "instance": standing.instance,
            "options": [option.value for option in Option if option in standing.options],
        }
        for id, standing in sorted(standings.items())
    }
    return json.dumps({"schema_version": SCHEMA_VERSION, "revision": revision, "accounts": accounts})


def publish(path: Path, text: str) -> None:
    """Replace the document: readers see the former one or this one, never a part."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
