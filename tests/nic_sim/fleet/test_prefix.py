"""IPv6 addresses of a routed prefix, tried in a network namespace of its own: nothing of this machine is changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

PREFIX = "fd00:5ca1:e::/64"
PROGRAM = """
import asyncio, json
from meshwire.coap import ACK, Message, codes, decode, encode
from nic_sim.fleet.__main__ import AddressKind, _transport
from nic_sim.fleet.fleet import FIRST_MAC, Fleet
from nic_sim.fleet.nic import NicPlan

class Gateway(asyncio.DatagramProtocol):
    def __init__(self):
        self.seen = set()
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, address):
        self.seen.add(address[0])
        message = decode(data)
        self.transport.sendto(encode(Message(ACK, codes.CHANGED, message.mid, message.token)), address)

async def main():
    transport, gateway = await asyncio.get_running_loop().create_datagram_endpoint(Gateway, ("::1", 0))
    target = ("::1", transport.get_extra_info("sockname")[1], 0, 0)
    carrier, scheme = _transport(AddressKind.AUTO, "fd00:5ca1:e::/64", FIRST_MAC, 20, [target])
    fleet = Fleet(20, NicPlan(period_s=1e6), carrier, scheme, [target], spread_s=0)
    task = asyncio.create_task(fleet.run())
    await asyncio.wait_for(fleet.all_reported.wait(), 60)
    task.cancel()
    print(json.dumps(sorted(gateway.seen)))

asyncio.run(main())
"""


def in_namespace(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["unshare", "-Urn", "sh", "-c", script, "sh", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_each_nic_has_an_address_of_the_routed_prefix() -> None:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("unshare and ip are not installed; for this test: apt-get install util-linux iproute2")
    routed = f"ip link set lo up && ip -6 route add local {PREFIX} dev lo"
    if in_namespace(routed).returncode:
        pytest.skip("this system allows no network namespace of our own")
    done = in_namespace(f'{routed} && exec "$1" -c "$2"', sys.executable, PROGRAM)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert len(seen) == 20 and "fd00:5ca1:e:0:213:5005:f000:3" in seen
