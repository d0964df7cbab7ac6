"""The cache by a made-up clock: what is kept, for whom, for how long, and what drops it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.cache import ENTRY_OCTETS, Cache, CacheKey
from gateway.exchange import Response
from gateway.forwarding import Forwarded
from meshwire.coap import codes, options
from meshwire.identity import DeviceId, TenantId

MAC, OTHER = DeviceId("001350050047dc9a"), DeviceId("001350050047dd92")
ACME, HILL = TenantId("acme"), TenantId("hill")
READ = Forwarded(codes.GET, ((options.URI_PATH, b"temp"), (options.URI_QUERY, b"sens")), b"")
KEY = CacheKey.of(MAC, ACME, READ)


def answer(*pairs: tuple[int, bytes], code: int = codes.CONTENT, payload: bytes = b"20.5") -> Response:
    return Response(code, payload, pairs)


def test_max_age_counts_down_and_ends() -> None:
    cache = Cache(10_000)
    cache.put(KEY, answer((options.MAX_AGE, b"\x1e")), 0, 100.0)
    kept = cache.get(KEY)
    assert kept is not None and kept.is_fresh(129.9) and not kept.is_fresh(130.0)
    assert kept.aged(110.5).uint(options.MAX_AGE) == 20


@pytest.mark.parametrize(
    "response",
    [
        answer(),
        answer((options.MAX_AGE, b"")),
        answer((options.MAX_AGE, b"\x1e"), code=codes.NOT_FOUND),
        answer((options.MAX_AGE, b"\x1e"), code=codes.CHANGED),
    ],
)
def test_what_is_not_kept(response: Response) -> None:
    cache = Cache(10_000)
    cache.put(KEY, answer((options.MAX_AGE, b"\x1e")), 0, 0.0)
    cache.put(KEY, response, 0, 1.0)
    assert (kept := cache.get(KEY)) is None or (kept.response.code == codes.CONTENT and kept.stored_s == 0.0)


def test_tenants_devices_and_options_are_apart() -> None:
    accept = replace(READ, options=(*READ.options, (options.ACCEPT, b"\x3c")))
    keys = {
        KEY,
        CacheKey.of(MAC, HILL, READ),
        CacheKey.of(OTHER, ACME, READ),
        CacheKey.of(MAC, ACME, accept),
        CacheKey.of(MAC, ACME, replace(READ, code=codes.FETCH)),
        CacheKey.of(MAC, ACME, replace(READ, payload=b"x")),
    }
    assert len(keys) == 6


def test_no_cache_key_options_and_etags_do_not_matter() -> None:
    """NoCacheKey: (number & 0x1e) == 0x1c (RFC 7252 section 5.4.6), such as Size1."""
    for number in (28, 60, 252):
        assert CacheKey.of(MAC, ACME, replace(READ, options=(*READ.options, (number, b"1")))) == KEY
    assert CacheKey.of(MAC, ACME, replace(READ, hop=((options.ETAG, b"1"),))) == KEY


def test_an_etag_is_kept_to_ask_again() -> None:
    cache = Cache(10_000)
    cache.put(KEY, answer((options.ETAG, b"v1")), 0, 0.0)
    kept = cache.get(KEY)
    assert kept is not None and kept.etag == b"v1" and not kept.is_fresh(0.0)
    renewed = cache.confirmed(KEY, kept, Response(codes.VALID, b"", ((options.MAX_AGE, b"\x0a"),)), 50.0)
    assert renewed.is_fresh(59.0) and renewed.response.payload == b"20.5"
    assert cache.get(KEY) is renewed
    valid = renewed.aged(52.0, (b"v0", b"v1"))
    assert (valid.code, valid.payload, valid.uint(options.MAX_AGE)) == (codes.VALID, b"", 8)


def test_a_change_drops_all_of_the_device_and_what_is_under_way() -> None:
    cache = Cache(10_000)
    fresh = answer((options.MAX_AGE, b"\x1e"))
    other = CacheKey.of(OTHER, ACME, READ)
    changes = cache.changes(MAC)
    cache.put(KEY, fresh, changes, 0.0)
    cache.put(other, fresh, cache.changes(OTHER), 0.0)
    cache.changing(MAC)
    assert cache.get(KEY) is None and cache.get(other) is not None
    cache.put(KEY, fresh, changes, 0.0)
    assert cache.get(KEY) is None, "it was asked before the change"


def test_it_is_bounded() -> None:
    cache = Cache(10 * (ENTRY_OCTETS + 100))
    keys = [CacheKey.of(MAC, ACME, replace(READ, payload=b"%d" % number)) for number in range(50)]
    for key in keys:
        cache.put(key, answer((options.MAX_AGE, b"\x1e"), payload=bytes(80)), 0, 0.0)
        cache.get(keys[0])
    assert 5 <= len(cache) <= 10 and cache.octets <= 10 * (ENTRY_OCTETS + 100)
    assert cache.get(keys[0]) is not None, "what is used stays"
    cache.changing(MAC)
    assert (len(cache), cache.octets) == (0, 0)


def test_none_is_kept_without_memory() -> None:
    cache = Cache(0)
    cache.put(KEY, answer((options.MAX_AGE, b"\x1e")), 0, 0.0)
    assert cache.get(KEY) is None
