"""Reason strings on a real socket: who wants none gets none, and none makes an answer too long for its client."""

from typing import Any

import pytest

from broker.addresses.address import Address, AddressType
from broker.addresses.book import AddressBook
from broker.tenants import Plan
from meshwire.mqtt import Connect, Properties, ProtocolVersion, PubAck, Publish, PubRec, ReasonCode
from meshwire.site import Site

ASKED = [
    # request problem information, maximum packet size, the address's words, the plan's words
    (None, None, "no receiver is there", "payload of 20 octets, the tenant's plan allows 10"),
    (1, 1_000, "no receiver is there", "payload of 20 octets, the tenant's plan allows 10"),
    (0, None, None, None),
    (1, 20, None, None),
]


@pytest.mark.parametrize(("wants", "most", "of_address", "of_plan"), ASKED)
async def test_a_client_that_wants_no_words_gets_none(
    start: Any,
    join: Any,
    tmp_path: Any,
    wants: int | None,
    most: int | None,
    of_address: str | None,
    of_plan: str | None,
) -> None:
    address = Address(tenant="acme", name="a", type=AddressType.ANYCAST)
    AddressBook(Site(tmp_path).path("broker", "addresses.json")).put(address)
    running = await start(plan={"ssni": Plan(max_payload_octets=10)})
    properties = Properties(request_problem_information=wants, maximum_packet_size=most)
    client = await join(running, Connect("c", ProtocolVersion.V5, properties=properties))
    for qos, kind in ((1, PubAck), (2, PubRec)):
        refused = await client.ask(Publish("acme/address/a", b"x", qos, packet_id=1))
        assert isinstance(refused, kind)
        assert (refused.reason_code, refused.properties.reason_string) == (
            ReasonCode.NO_MATCHING_SUBSCRIBERS,
            of_address,
        )
        refused = await client.ask(Publish("t", bytes(20), qos, packet_id=2))
        assert isinstance(refused, kind)
        assert (refused.reason_code, refused.properties.reason_string) == (ReasonCode.QUOTA_EXCEEDED, of_plan)
