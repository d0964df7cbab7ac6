"""A browser for tests of the console: cookies, forms and redirects over a real socket; no scripts."""

from __future__ import annotations

import asyncio
import html
import http.client
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from patience import PATIENCE_S

PASSWORD = "correct horse"


@dataclass
class Browser:
    """Cookies, forms and redirects; no scripts."""

    port: int
    cookie: str = ""
    status: int = 0
    headers: Any = None
    text: str = ""
    path: str = ""
    hops: list[str] = field(default_factory=list)

    def _send(self, method: str, path: str, fields: dict[str, str] | bytes | None, headers: dict[str, str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        body = urlencode(fields) if isinstance(fields, dict) else fields
        headers = {"Cookie": self.cookie, "Content-Type": "application/x-www-form-urlencoded"} | headers
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        self.status, self.headers, self.path = response.status, response.headers, path
        self.text = response.read().decode()
        connection.close()
        if "Set-Cookie" in self.headers:
            self.cookie = self.headers["Set-Cookie"].split(";")[0]

    async def go(self, path: str, fields: dict[str, str] | None = None, **headers: str) -> Browser:
        """Load a page, or send a form with this page's form token; follow redirects."""
        method = "GET" if fields is None else "POST"
        if fields is not None:
            fields = self._token() | fields
        self.hops = [path]
        await asyncio.to_thread(self._send, method, path, fields, headers)
        while self.status == 303 and len(self.hops) < 5:
            self.hops.append(self.headers["Location"])
            await asyncio.to_thread(self._send, "GET", self.hops[-1], None, {})
        return self

    async def upload(self, path: str, fields: dict[str, str], image: bytes, **headers: str) -> Browser:
        """Send a form with a file, as browsers do."""
        parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in (self._token() | fields).items()]
        parts.append(b'name="image"; filename="image.bin"\r\nContent-Type: application/octet-stream\r\n\r\n' + image)
        body = b"".join(b"--part\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts)
        headers = {"Content-Type": "multipart/form-data; boundary=part"} | headers
        await asyncio.to_thread(self._send, "POST", path, body + b"--part--\r\n", headers)
        return self

    def _token(self) -> dict[str, str]:
        """The form token of the page that is shown."""
        found = re.search(r'name="form_token" value="([^"]+)"', self.text)
        return {} if found is None else {"form_token": html.unescape(found[1])}


async def set_up(browser: Browser) -> Browser:
    await browser.go("/console/")
    return await browser.go("/console/setup", {"name": "ada", "password": PASSWORD, "again": PASSWORD})
