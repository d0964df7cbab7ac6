"""Clients that know nothing of us: libcoap, aiocoap and mosquitto at a site built by hand from separate processes."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys

import pytest
from free_ports import free_port
from patience import PATIENCE_S
from process_site import ProcessSite

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

STANDARD, MILLI = "0013500500470001", "0013500500470002"
DOMAIN = "SG.YEL01.SSN.SSNSGS.NET"


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def uri(mac: str, path: str, token: str = "") -> str:
    joint = "&" if "?" in path else "?"
    access = f"{joint}access_token={token}" if token else ""
    return f"coap://SSN{mac}.{DOMAIN}:4849/{path}{access}"


def subscribe(site: ProcessSite, user: str, password: str, topic: str, *more: str) -> subprocess.CompletedProcess[str]:
    where = ["-h", "127.0.0.1", "-p", str(site.mqtt), "-u", user, "-P", password]
    return site.attempt("mosquitto_sub", *where, "-t", topic, "-F", "%t %x", *more)


def test_foreign_clients_read_set_observe_and_subscribe(site: ProcessSite) -> None:
    need("mosquitto_sub", "coap-client-notls", "curl")
    site.start_servers()
    site.add_board_and_nic(STANDARD, "riverside", "standard", "temp")
    site.add_board_and_nic(MILLI, "hilltop", "milli-1.4.8", "temp")
    riverside, hilltop = site.token("riverside"), site.token("hilltop")

    # mosquitto_sub with a token gets its own tenant's readings, octet for octet a CBOR record.
    got = subscribe(site, "notused", riverside, "riverside/read/#", "-C", "2", "-W", "60")
    assert got.returncode == 0, got.stderr + site.logs()
    for line in got.stdout.splitlines():
        topic, payload = line.split()
        assert topic == f"riverside/read/{STANDARD}/temp"
        assert payload.startswith("a2006474656d7001")
    got = subscribe(site, "notused", hilltop, "hilltop/read/#", "-C", "1", "-W", "60")
    assert got.stdout.startswith(f"hilltop/read/{MILLI}/temp"), got.stderr + site.logs()

    # With a password an internal client sees all tenants.
    password = site.meshwire("user", "add", "backoffice", "--role", "BUBBLE_UP_READ_CONSUMER_ALL").strip()
    got = subscribe(site, "backoffice", password, "+/read/#", "-C", "4", "-W", "60")
    assert {line.split("/")[0] for line in got.stdout.splitlines()} >= {"riverside"}, got.stderr

    # Nothing of another tenant, whatever the filter.
    for topic in (f"riverside/read/{STANDARD}/temp", "riverside/#", "+/read/#", "#", "$share/g/riverside/read/#"):
        got = subscribe(site, "notused", hilltop, topic, "-W", "3")
        assert got.stdout == "", topic
    assert subscribe(site, "notused", hilltop + "x", "hilltop/read/#", "-W", "3").returncode != 0
    assert subscribe(site, "backoffice", "wrong", "+/read/#", "-W", "3").returncode != 0

    proxy = f"coap://127.0.0.1:{site.coap}"
    for mac, token in ((STANDARD, riverside), (MILLI, hilltop)):
        # aiocoap-client: GET, PUT, GET, observe
        read = site.attempt("aiocoap-client", "--proxy", proxy, uri(mac, "snsr/arduino/temp?sens", token))
        assert "temp" in read.stdout, read.stderr + site.logs()
        put = site.attempt("aiocoap-client", "--proxy", proxy, "-m", "PUT", uri(mac, "snsr/arduino/temp?cfg=C", token))
        assert put.returncode == 0, put.stderr
        read = site.attempt("aiocoap-client", "--proxy", proxy, uri(mac, "snsr/arduino/temp?cfg", token))
        assert ",C" in read.stdout, read.stdout + read.stderr
        # (aiocoap-client 0.4.17 cancels its observation after the first answer, with any server: its library does not)
        target = uri(mac, "snsr/arduino/temp?sens", token)
        observe(site, "aiocoap-client", "--observe", "--proxy", proxy, target, count=1)
        observe(site, sys.executable, "-c", AIOCOAP_OBSERVER, proxy, uri(mac, "snsr/arduino/temp?sens"), token)
        # coap-client of libcoap
        arguments = ["-P", proxy, uri(mac, "snsr/arduino/temp?sens", token)]
        read = site.attempt("coap-client-notls", "-B", "60", *arguments)
        assert "temp" in read.stdout, read.stdout + read.stderr + site.logs()
        put = site.attempt(
            "coap-client-notls", "-m", "put", "-B", "60", "-P", proxy, uri(mac, "snsr/arduino/temp?cfg=F", token)
        )
        assert "4.0" not in put.stderr, put.stderr
        observe(site, "coap-client-notls", "-s", "60", "-B", "90", *arguments)

    # A session belongs to libcoap's source port: the directory of the tenant's devices, and nothing after its end.
    port = free_port(socket.SOCK_DGRAM)
    client = ["coap-client-notls", "-p", str(port), "-B", "60"]
    site.attempt(*client, "-m", "post", "-e", riverside, f"{proxy}/sessions")
    endpoints = site.attempt(*client, f"{proxy}/rd-lookup/ep")
    assert STANDARD in endpoints.stdout and MILLI not in endpoints.stdout, endpoints.stderr
    resources = site.attempt(*client, f"{proxy}/rd-lookup/res")
    assert f"coap://SSN{STANDARD}.{DOMAIN}:4849/snsr/arduino/temp" in resources.stdout, resources.stderr
    blocks = site.attempt(*client, "-b", "64", f"{proxy}/rd-lookup/res")
    assert blocks.stdout == resources.stdout, blocks.stderr
    by_path = site.attempt(*client, f"{proxy}/devices/{STANDARD}/snsr/arduino/temp?sens")
    assert "temp" in by_path.stdout, by_path.stderr
    site.attempt(*client, "-m", "delete", f"{proxy}/sessions")
    assert "4.01" in site.attempt(*client, f"{proxy}/rd-lookup/ep").stderr

    # A device of another tenant answers like one that does not exist.
    foreign = site.attempt("aiocoap-client", "--proxy", proxy, uri(STANDARD, "snsr/arduino/temp?sens", hilltop))
    unknown = site.attempt(
        "aiocoap-client", "--proxy", proxy, uri("00135005ffffffff", "snsr/arduino/temp?sens", hilltop)
    )
    assert "4.04" in foreign.stderr + foreign.stdout
    assert foreign.stdout == unknown.stdout
    no_session = site.attempt("aiocoap-client", "--proxy", proxy, uri(STANDARD, "snsr/arduino/temp?sens"))
    assert "4.01" in no_session.stderr + no_session.stdout


AIOCOAP_OBSERVER = """
import asyncio, sys
import aiocoap

async def main(proxy, uri, token):
    context = await aiocoap.Context.create_client_context()
    session = aiocoap.Message(code=aiocoap.POST, uri=proxy + "/sessions", payload=token.encode())
    assert (await context.request(session).response).code.is_successful()
    request = aiocoap.Message(code=aiocoap.GET, uri=proxy, observe=0)
    request.opt.proxy_uri = uri
    pending = context.request(request)
    print((await pending.response).payload)
    async for notification in pending.observation:
        print(notification.payload)

asyncio.run(main(*sys.argv[1:]))
"""
"""A session by token, then an observation from the same socket, with aiocoap's library."""


def observe(site: ProcessSite, *command: str, count: int = 3) -> None:
    """The first representation and `count` - 1 notifications arrive."""
    out = site.folder / "observed"
    with out.open("wb") as file:
        process = subprocess.Popen(command, env=site.environment, stdout=file, stderr=subprocess.DEVNULL)
        try:
            site.wait_for(lambda: out.read_bytes().count(b"temp") >= count, f"{count} of {command[:2]}")
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
