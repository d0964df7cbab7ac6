"""Pictures of every page of the console for the documentation, taken of a demo site; see `scripts/screenshots`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.chromium import chromium

FOLDER: Final = Path(__file__).parent.parent / "docs" / "images" / "console"
MESHWIRE: Final = [str(Path(sys.executable).with_name("meshwire"))]
DESK: Final = {"width": 1180, "height": 760}
PHONE: Final = {"width": 390, "height": 760}
TALLEST: Final = 1_500
MOST_OCTETS: Final = 60_000
NAME: Final = "ada"
PASSWORD: Final = "correct horse battery"
MAC: Final = "0013500500470001"
STRANGER: Final = "00135005004700ff"
INSTANCE: Final = """
[[broker.listener]]
port = 0
[broker]
durability = "memory"
[broker.instance]
name = "main"
node = "one"
"""


class Camera:
    """Takes pictures of the page that it has; those that nobody asked for are left out."""

    def __init__(self, page: Any, ready: dict[str, Any], state: Path, wanted: frozenset[str]) -> None:
        self.page = page
        self.url = f"{ready['http']}/console/"
        self.mqtt_port = ready["mqtt"].rpartition(":")[2]
        self._state = state
        self._wanted = wanted

    async def go(self, path: str) -> None:
        """To a page of the console."""
        await self.page.goto(self.url + path)

    async def meshwire(self, *command: str) -> None:
        """A command of ours at the site."""
        async with running(*command, MESHWIRE_STATE=str(self._state)) as process:
            await process.wait()

    async def press(self, name: str) -> None:
        """A button by its text."""
        await self.page.get_by_role("button", name=name, exact=True).first.click()

    async def fill(self, **fields: str) -> None:
        """Fields by their names in the form."""
        for name, text in fields.items():
            await self.page.locator(f"main [name={name}]").first.fill(text)

    async def take(self, name: str, *, size: dict[str, int] = DESK, scheme: str = "light") -> None:
        """One picture of the whole page, at most `TALLEST` pixels of it."""
        if self._wanted and name not in self._wanted:
            return
        await self.page.set_viewport_size(size)
        await self.page.emulate_media(color_scheme=scheme)
        await self.page.wait_for_timeout(400)
        height = await self.page.evaluate("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(TALLEST, max(height, 300))}
        picture = small(await self.page.screenshot(full_page=True, clip=clip, animations="disabled"))
        (FOLDER / f"{name}.png").write_bytes(picture)
        await self.page.set_viewport_size(DESK)
        await self.page.emulate_media(color_scheme="light")
        sys.stdout.write(f"{name}.png {len(picture) // 1000} kB\n")


def small(picture: bytes) -> bytes:
    """With as few colours as its size asks for."""
    for colours in (128, 64, 32, 16):
        command = ["pngquant", "--strip", "--speed", "1", "--nofs", str(colours), "-"]
        found = subprocess.run(command, input=picture, stdout=subprocess.PIPE, check=True).stdout
        if len(found) <= MOST_OCTETS:
            break
    return found


async def first_start(camera: Camera) -> None:
    await camera.go("")
    await camera.take("setup")
    await camera.fill(name=NAME, password=PASSWORD, again="something else")
    await camera.press("Make the administrator")
    await camera.take("setup-refused")
    await camera.fill(name=NAME, password=PASSWORD, again=PASSWORD)
    await camera.press("Make the administrator")
    await camera.fill(port="sim://milli-1.4.8")
    await camera.press("Look what answers")
    await camera.page.get_by_text("a board", exact=True).wait_for()
    await (
        camera.page.get_by_text("Serial port of this machine").or_(camera.page.get_by_text("no serial port")).wait_for()
    )
    await camera.take("first-reading")
    await camera.page.context.clear_cookies()
    await camera.go("")
    await camera.fill(name=NAME, password="wrong")
    await camera.press("Sign in")
    await camera.take("sign-in")
    await camera.fill(name=NAME, password=PASSWORD)
    await camera.press("Sign in")


async def messaging(camera: Camera) -> None:
    for account in ("riverside", "hilltop"):
        await camera.go(f"messaging/accounts/{account}")
        await camera.press("Assign")
    await camera.go("messaging")
    await camera.fill(id="new-account", title="A new customer")
    await camera.press("Make")
    await camera.take("account-new")
    await camera.press("Assign")
    await camera.fill(domain="broker.example.com", port="1883")
    await camera.press("Add")
    await camera.page.get_by_label("Secure MQTT over TLS", exact=True).check()
    await camera.press("Set")
    await camera.take("account-refused")
    await camera.go("clients?tenant=new-account")
    await camera.press("Make")
    await camera.take("client-made")
    await camera.go("clients")
    await camera.take("clients")
    await camera.go("people")
    await camera.fill(name="tina", password=PASSWORD)
    await camera.page.locator("main [name=sees]").select_option("riverside")
    await camera.press("Add")
    await camera.take("people")
    await camera.go("messaging/accounts/new-account")
    await camera.take("account")
    await camera.page.get_by_role("button", name="Delete").first.click()
    await camera.take("account-warning")
    await camera.go("messaging")
    await camera.take("messaging")


async def broker(camera: Camera) -> None:
    await camera.go("messaging/addresses?tenant=riverside")
    await camera.take("addresses-empty")
    form = camera.page.get_by_role("region", name="New address")
    for name, kind in (("jobs", "queue"), ("alarms", "topic"), ("pumps", "anycast"), ("news", "multicast")):
        await form.locator("input[name=name]").fill(name)
        await form.locator(f"input[value={kind}]").check()
        await form.get_by_role("button", name="Make").click()
        await camera.page.get_by_role("heading", level=1).filter(has_text=name).wait_for()
        await camera.go("messaging/addresses?tenant=riverside")
    await camera.take("addresses")
    await camera.meshwire("send", "jobs", "--tenant", "riverside", "--messages", "3", "--port", camera.mqtt_port)
    await camera.page.get_by_role("link", name="jobs").first.click()
    await camera.take("address")
    await camera.go("messaging/connections")
    await camera.page.wait_for_timeout(3_000)
    await camera.take("connections")
    await camera.go("messaging/topics?tenant=riverside")
    await camera.page.wait_for_timeout(3_000)
    await camera.take("topics")
    await camera.go("messaging/client?tenant=riverside")
    await camera.press("Connect")
    await camera.press("Subscribe")
    await camera.page.wait_for_timeout(6_000)
    await camera.take("mqtt-client")


async def aliases(camera: Camera) -> None:
    await camera.go("aliases")
    await camera.fill(name="not a name", host="broker.example.com")
    await camera.page.locator("main [name=name]").first.press("Enter")
    await camera.page.get_by_role("alert").or_(camera.page.locator(".fields .error")).first.wait_for()
    await camera.take("aliases-refused")
    await camera.fill(name="partner", host="tcp://broker.example.com:1883")
    await camera.press("Save")
    await camera.take("aliases")


async def network(camera: Camera) -> None:
    await camera.go("network")
    await camera.page.wait_for_timeout(2_000)
    await camera.take("network")
    await camera.take("network-dark", scheme="dark")
    await camera.take("network-phone", size=PHONE)
    await camera.go("network?find=nothing")
    await camera.take("network-none")
    await camera.go(f"network/{STRANGER}")
    await camera.take("nic-unheard")
    await camera.go(f"network/{MAC}")
    await camera.press("Send")
    await camera.take("nic")
    await camera.take("nic-phone", size=PHONE)
    for link in await camera.page.get_by_role("navigation").nth(1).get_by_role("link").all():
        path = (await link.get_attribute("href") or "").rpartition("/")[2]
        if path not in ("frames", MAC):
            await link.click()
            await camera.page.wait_for_timeout(3_000)
            await camera.take(f"nic-{path.partition('?')[0]}")
            await camera.go(f"network/{MAC}")
    await camera.go(f"network/{MAC}/frames")
    await camera.press("Watch")
    await camera.page.wait_for_timeout(8_000)
    await camera.press("Pause")
    await camera.take("nic-frames", size=DESK | {"height": 970})  # its rows are drawn when they are in view
    await camera.go(f"explain?what={MAC}")
    await camera.take("explain")
    await camera.go("explain?what=nothing")
    await camera.take("explain-none")
    await camera.go("nowhere")
    await camera.take("refusal")


async def overview(camera: Camera) -> None:
    await camera.go("")
    await camera.page.wait_for_timeout(7_000)
    await camera.take("overview")
    await camera.take("overview-dark", scheme="dark")
    await camera.take("overview-phone", size=PHONE)


STEPS: Final[tuple[Callable[[Camera], Awaitable[None]], ...]] = (
    first_start,
    messaging,
    broker,
    aliases,
    network,
    overview,
)


@asynccontextmanager
async def running(*command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command of ours until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *MESHWIRE,
        *command,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=1 << 20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def take_all(wanted: frozenset[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config, state = Path(folder, "instance.toml"), Path(folder, "state")
        config.write_text(INSTANCE)  # noqa: ASYNC240 - nothing else runs yet
        async with running("demo", "--headless", "--json", "--nics", "12", "--keep", str(state)) as demo:
            assert demo.stdout is not None
            ready = json.loads(await demo.stdout.readline())
            reading = asyncio.create_task(drained(demo.stdout))
            instance = running("broker", "--config", str(config), MESHWIRE_STATE=str(state))
            async with (
                instance,
                running(
                    "device",
                    "add",
                    STRANGER,
                    "--tenant",
                    "hilltop",
                    MESHWIRE_STATE=str(state),
                    MESHWIRE_HTTP=ready["http"],
                ),
                chromium() as browser,
            ):
                page = await browser.new_page(viewport=DESK)
                page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
                camera = Camera(page, ready, state, wanted)
                for step in STEPS:
                    await step(camera)
            reading.cancel()


async def drained(stream: asyncio.StreamReader) -> None:
    """Nobody reads the demo's readings here."""
    while await stream.read(1 << 16):
        pass


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    asyncio.run(take_all(frozenset(sys.argv[1:])))
