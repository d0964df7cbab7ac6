"""The payload of a request on the command line: text, `@FILE`, or `hex:` and digits."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.tools.errors import WrongInput

__all__ = ["PayloadOption", "is_text", "octets_of"]

PayloadOption = Annotated[str, typer.Option("--payload", "-m", help="text; @FILE; or hex:0608…")]


def is_text(said: str) -> bool:
    """It stands for itself."""
    return not said.startswith(("@", "hex:"))


def octets_of(said: str) -> bytes:
    """The octets it stands for; raises WrongInput."""
    try:
        if said.startswith("hex:"):
            return bytes.fromhex(said.removeprefix("hex:"))
        return Path(said[1:]).read_bytes() if said.startswith("@") else said.encode()
    except (ValueError, OSError) as error:
        raise WrongInput("payload can't be read", evidence=str(error), fix="give text, @FILE or hex:…") from None
