"""A NIC's software page: a form with a file, and the stored command that it makes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from console_browser import Browser, set_up

from gateway.commands.records import Command
from gateway.commands.store import Filter
from gateway.commands.updates import FIRMWARE_PATH
from gateway.console.multipart import parse_multipart
from gateway.gateway import Gateway
from meshwire.coap import codes, options
from meshwire.identity import DeviceId
from meshwire.site import Site

MAC = DeviceId("001350050047dc9a")
PLACE = f"/console/network/{MAC}/software"
IMAGE = b"meshwire-board 2.1.0\n\r\n--par\r\n--\r\n" + bytes(range(256)) * 12
FORM = {"path": FIRMWARE_PATH, "ttl": "600"}


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    settings = settings_for(http="127.0.0.1:0", commands={"max_payload_octets": 8192})
    async with running(Gateway(settings, site)) as gateway:
        yield gateway


@pytest.fixture
async def browser(gateway: Gateway) -> Browser:
    browser = await set_up(Browser(gateway.http_port))
    return await browser.go(PLACE)


async def commands(gateway: Gateway) -> list[Command]:
    """Those of the NIC, the newest first."""
    assert gateway._commands is not None
    return await gateway._commands.store.select(Filter(None, MAC, None, None, 10))


async def test_an_image_becomes_a_stored_command_in_the_place_of_an_older_one(
    gateway: Gateway, browser: Browser
) -> None:
    assert browser.status == 200 and "at most 8 KiB" in browser.text and "default-src 'none'" in str(browser.headers)
    await browser.upload(PLACE, FORM, IMAGE)
    assert browser.status == 200 and f"{len(IMAGE)} octets</strong>: queued" in browser.text
    (command,) = await commands(gateway)
    digest = hashlib.sha256(IMAGE).digest()
    assert command.request.payload == IMAGE and command.request.code == codes.PUT
    assert command.request.uint(options.CONTENT_FORMAT) == 42 and command.idempotent
    assert command.request.option(options.URI_QUERY) == f"sha256={digest.hex()}".encode()
    assert command.expires_s - command.created_s == pytest.approx(600)
    await browser.upload(PLACE, FORM, b"meshwire-board 2.2.0\n")
    assert "21 octets" in browser.text
    assert sorted(each.state for each in await commands(gateway)) == ["cancelled", "queued"]
    await browser.go(f"/console/network/{MAC}")
    assert "snsr/sys/fw?sha256=" in browser.text and "Cancel PUT snsr/sys/fw" in browser.text


async def test_what_is_no_image_or_no_form_of_ours_changes_nothing(gateway: Gateway, browser: Browser) -> None:
    for fields, image, status, words in (
        (FORM, b"", 422, "Choose a file"),
        (FORM | {"ttl": "soon"}, IMAGE, 422, "ttl: "),
        (FORM | {"ttl": "1e9"}, IMAGE, 409, "ttl is out of range"),
        (FORM | {"path": "x" * 300}, IMAGE, 409, "too long"),
        (FORM, bytes(8193), 413, "longer than the 8192 octets"),
        (FORM, bytes(3 << 20), 413, "longer than the 8192 octets"),
        (FORM | {"form_token": "x"}, IMAGE, 403, "not of this session"),
    ):
        await browser.go(PLACE)
        await browser.upload(PLACE, fields, image)
        assert browser.status == status and words in browser.text, (status, browser.status)
    await browser.go(PLACE)
    await browser.upload(PLACE, FORM, IMAGE, Origin="https://elsewhere.example")
    assert browser.status == 403
    await browser.go(PLACE)
    await browser.go(PLACE, FORM)
    assert browser.status == 422, "not a form with a file"
    await Browser(gateway.http_port).upload(PLACE, FORM, IMAGE)
    assert await commands(gateway) == []


PART = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'


@pytest.mark.parametrize(
    ("content_type", "octets"),
    [
        ("multipart/form-data; boundary=b", PART),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", PART * 60 + b"--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n--b--"),
        ("multipart/form-data; boundary=b", PART.replace(b"1", b"\xff") + b"--b--"),
        ("multipart/form-data", PART + b"--b--"),
        ("multipart/mixed; boundary=b", PART + b"--b--"),
        ("multipart/form-data; boundary=" + "b" * 71, PART + b"--b--"),
        ("", PART + b"--b--"),
    ],
)
def test_what_is_no_whole_form_is_refused(content_type: str, octets: bytes) -> None:
    with pytest.raises(ValueError):
        parse_multipart(content_type, octets)


def test_a_form_is_read_as_browsers_write_it() -> None:
    head = b'content-disposition: form-data; name="f"; filename="n\xc3\xa4me; x"\r\nX: y\r\n\r\n'
    file = b"Preamble\r\n--b\r\n" + head + b"\r\n\0\r\n"
    assert parse_multipart('multipart/form-data; boundary="b"', file + PART + b"--b--\r\nmore") == (
        {"a": "1"},
        {"f": b"\r\n\0"},
    )
