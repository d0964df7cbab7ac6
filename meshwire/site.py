"""What the processes of one site find on disk: keys, generated secrets, and each component's folder.

This file decides the layout of the state folder and that secrets are made on first use, never shipped. Whoever
comes first makes a file; creation is atomic, so that gateway and broker may start at the same moment.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshwire.tokens import SigningKeys

__all__ = ["Site"]


@dataclass(frozen=True, slots=True)
class Site:
    """The state folder of one site. Folders are made with mode 0700 when they are first needed."""

    state_dir: Path

    @classmethod
    def default(cls) -> Site:
        """`$MESHWIRE_STATE`, else `$XDG_STATE_HOME/meshwire`, else `~/.local/state/meshwire`."""
        if chosen := os.environ.get("MESHWIRE_STATE"):
            return cls(Path(chosen))
        base = os.environ.get("XDG_STATE_HOME")
        return cls((Path(base) if base else Path.home() / ".local" / "state") / "meshwire")

    def path(self, *parts: str) -> Path:
        """A path below the state folder, with its parent folder made."""
        path = self.state_dir.joinpath(*parts)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    @property
    def jwks_path(self) -> Path:
        """The public key set (RFC 7517) with which any process verifies the site's tokens."""
        return self.path("keys", "jwks.json")

    def signing_keys(self) -> SigningKeys:
        """The site's private signing key, made on first use together with the public key set."""
        # JWT and cryptography take longer to import than all else of a process that signs nothing.
        from meshwire.tokens import SigningKeys

        private = self.path("keys", "signing.json")
        if not private.exists():
            draft = private.with_name(f".signing.{secrets.token_hex(8)}")
            SigningKeys.generate().save(draft)
            _publish(draft, private)
        keys = SigningKeys.load(private)
        jwks = json.dumps(keys.public().to_jwks())
        if not self.jwks_path.exists() or self.jwks_path.read_text() != jwks:
            draft = self.jwks_path.with_name(f".jwks.{secrets.token_hex(8)}")
            draft.write_text(jwks)
            draft.replace(self.jwks_path)
        return keys

    def secret(self, name: str) -> str:
        """A random secret (43 characters), made on first use, mode 0600."""
        path = self.path("secrets", name)
        if not path.exists():
            draft = path.with_name(f".{name}.{secrets.token_hex(8)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(32))
            _publish(draft, path)
        return path.read_text().strip()


def _publish(draft: Path, final: Path) -> None:
    """Give a finished file its name unless somebody was first: link(2) fails where the name is taken."""
    try:
        os.link(draft, final)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
