"""The payload of a request on the command line."""

from pathlib import Path

import pytest

from gateway.tools.errors import WrongInput
from gateway.tools.payload import is_text, octets_of


def test_text_a_file_and_digits(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(b"\x00\xff")
    assert [octets_of(said) for said in ("on", "", "hex:06 08", f"@{file}")] == [b"on", b"", b"\x06\x08", b"\x00\xff"]
    assert [is_text(said) for said in ("on", "", "hex:06", "@file")] == [True, True, False, False]


@pytest.mark.parametrize("said", ["hex:0", "hex:zz", "@no/such/file"])
def test_what_can_not_be_read_is_told(said: str) -> None:
    with pytest.raises(WrongInput, match="payload"):
        octets_of(said)
