"""A form with a file as browsers send it: multipart/form-data (RFC 7578, RFC 2046 section 5.1)."""

from __future__ import annotations

import re
from email.message import Message
from typing import Final

__all__ = ["parse_multipart"]

MOST_PARTS: Final = 50
_NAME: Final = re.compile(rb';\s*name="([^"]*)"', re.IGNORECASE)
_FILE: Final = re.compile(rb";\s*filename\*?=", re.IGNORECASE)
_DISPOSITION: Final = re.compile(rb"^content-disposition:\s*form-data\s*(;.*)$", re.IGNORECASE | re.MULTILINE)


def parse_multipart(content_type: str, octets: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    """The fields and the files of a form, by name; the last one of a name counts.

    Args:
        content_type: of the request; it names the boundary.
        octets: the whole body.

    Raises:
        ValueError: it is no such form, or not all of one.
    """
    mark = b"\r\n--" + _boundary(content_type)
    # What stands before the first boundary and after the last one is to be ignored.
    _, *parts = (b"\r\n" + octets).split(mark, MOST_PARTS + 1)
    if not parts or not parts[-1].startswith(b"--"):
        raise ValueError("the form does not end, or has too many fields")
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for part in parts[:-1]:
        padding, begins, rest = part.partition(b"\r\n")
        head, ends, content = rest.partition(b"\r\n\r\n")
        disposition = _DISPOSITION.search(head.replace(b"\r\n", b"\n"))
        name = disposition and _NAME.search(disposition[1])
        if padding.strip() or not (begins and ends and disposition and name):
            raise ValueError("a part of the form has no name")
        if _FILE.search(disposition[1]):
            files[name[1].decode()] = content
        else:
            fields[name[1].decode()] = content.decode()
    return fields, files


def _boundary(content_type: str) -> bytes:
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary("")
    if header.get_content_type() != "multipart/form-data" or not 0 < len(boundary) <= 70:
        raise ValueError("it is not multipart/form-data with a boundary")
    return boundary.encode("ascii")
