"""The figures of the serial link, as a resource, as text for Prometheus, and over HTTP."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from meshwire.coap import codes
from nic_sim.errors import NicError
from nic_sim.metrics import MetricsServer
from nic_sim.settings import HostPort

Run = Callable[..., Any]


def page(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("profile", ["standard", "milli-1.4.8"])
def test_a_nic_shows_its_link_as_resource_and_as_metrics(profile: str, run: Run, site: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(profile, tmp_path, serial="/dev/serial/by-id/usb-x", silent_after_s=60) as held:
            await held.readings(2)
            stats = json.loads((await held.ask(codes.GET, "/sys/link/stats")).payload)
            assert stats["port"] == "/dev/serial/by-id/usb-x"
            assert stats["requests"] >= 2
            assert stats["notifications"] >= 1
            assert 0 <= stats["round_trip_last_s"] <= stats["round_trip_most_s"] < 5
            assert stats["frames_in"] > 3
            assert stats["octets_out"] > 30
            assert (stats["check_errors"], stats["retries"], stats["resets"]) == (0, 0, 0)
            text = (await held.ask(codes.GET, "/sys/metrics")).payload.decode()
            assert len((await held.ask(codes.GET, "/sys/link")).payload) < 1024, "more than a block changes under way"
            labels = f'mac="{held.nic.settings.mac}",port="/dev/serial/by-id/usb-x"'
            assert f"meshwire_nic_link_check_errors_total{{{labels}}} 0" in text  # the first block of several
            whole = held.nic.metrics().splitlines()
            assert f"meshwire_nic_link_requests_total{{{labels}}} {stats['requests']}" in whole
            assert sum(line.startswith("meshwire_nic_link_state{") and line.endswith(" 1") for line in whole) == 1
            assert f"meshwire_nic_link_silent{{{labels}}} 0" in whole
            typed = {line.split()[2] for line in whole if line.startswith("# TYPE")}
            assert {line.split("{")[0] for line in whole if not line.startswith("#")} <= typed

    run(scenario())


async def test_the_page_for_scrapers() -> None:
    server = MetricsServer(HostPort(host="127.0.0.1", port=0), lambda: "a 1\n")
    task = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not server.port:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert await asyncio.to_thread(page, server.port, "/metrics") == (200, "a 1\n")
        assert await asyncio.to_thread(page, server.port, "/metrics?x=1", "HEAD") == (200, "")
        assert (await asyncio.to_thread(page, server.port, "/metrics", "POST"))[0] == 405
        assert (await asyncio.to_thread(page, server.port, "/"))[0] == 404
        taken = MetricsServer(HostPort(host="127.0.0.1", port=server.port), lambda: "")
        with pytest.raises(NicError, match="MW-NIC-004"):
            await taken.run()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
