"""The URI splitter as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.target import TargetError, is_proxied, target_of
from meshwire.coap import CON, Message, codes, options
from meshwire.identity import DeviceId

MAC = DeviceId("001350050047dd92")
HOST = "SSN001350050047dd92.SG.YEL01.SSN.SSNSGS.NET"


def by_uri(uri: str | bytes) -> Message:
    octets = uri.encode() if isinstance(uri, str) else uri
    return Message(CON, codes.GET, 1, b"", ((options.PROXY_URI, octets),))


URIS: list[tuple[str, tuple[bytes, ...], tuple[bytes, ...]]] = [
    (f"coap://{HOST}:4849/snsr/arduino/temp?sens", (b"snsr", b"arduino", b"temp"), (b"sens",)),
    (f"coap://{HOST.lower()}/snsr/arduino/temp?sens", (b"snsr", b"arduino", b"temp"), (b"sens",)),
    (f"COAP://{HOST.upper()}:4849/snsr", (b"snsr",), ()),
    (f"coap://{HOST}:4849/?", (), ()),
    (f"coap://{HOST}:4849/snsr/sys/time?", (b"snsr", b"sys", b"time"), ()),
    (f"coap://{HOST}", (), ()),
    (f"coap://{HOST}:", (), ()),
    (f"coap://{HOST}?a", (), (b"a",)),
    (f"coap://{HOST}/", (), ()),
    (f"coap://{HOST}./a", (b"a",), ()),
    (f"coap://{HOST}/a/", (b"a", b""), ()),
    (f"coap://{HOST}//a", (b"", b"a"), ()),
    (f"coap://{HOST}/a%2Fb/%C3%A4?x=%26&y", (b"a/b", "ä".encode()), (b"x=&", b"y")),
    (f"coap://{HOST}/ä?ö", ("ä".encode(),), ("ö".encode(),)),
    ("coap://SSN001350050047dd92/a", (b"a",), ()),
    ("coap://001350050047dd92/a", (b"a",), ()),
    ("coap://00-13-50-05-00-47-DD-92:1/a", (b"a",), ()),
]


@pytest.mark.parametrize(("uri", "path", "query"), URIS)
def test_uris_of_a_device(uri: str, path: tuple[bytes, ...], query: tuple[bytes, ...]) -> None:
    target = target_of(by_uri(uri), [])
    assert (target.mac, target.path, target.query) == (MAC, path, query)


@pytest.mark.parametrize(
    "host",
    ["example.com", "[::1]", "10.0.0.1", "SSN0013.x", "001350050047dd92.example.com", "SSN001350050047dd9g.x", "ssn"],
)
def test_hosts_that_name_no_device(host: str) -> None:
    assert target_of(by_uri(f"coap://{host}/a"), []).mac is None


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("", codes.BAD_OPTION),
        ("/a", codes.BAD_OPTION),
        ("coap:", codes.BAD_OPTION),
        ("coap://", codes.BAD_OPTION),
        ("coap:///a", codes.BAD_OPTION),
        (f"//{HOST}/a", codes.BAD_OPTION),
        (f"coap://{HOST}:port/a", codes.BAD_OPTION),
        (f"coap://user@{HOST}/a", codes.BAD_OPTION),
        (f"coap://{HOST}/a#b", codes.BAD_OPTION),
        (f"coap://{HOST}/%zz", codes.BAD_OPTION),
        (f"coap://{HOST}/%4", codes.BAD_OPTION),
        (f"coap://{HOST}/" + 256 * "a", codes.BAD_OPTION),
        (b"coap://\xff/", codes.BAD_OPTION),
        (f"coaps://{HOST}/a", codes.PROXYING_NOT_SUPPORTED),
        (f"http://{HOST}/a", codes.PROXYING_NOT_SUPPORTED),
    ],
)
def test_what_is_no_target(uri: str | bytes, code: int) -> None:
    with pytest.raises(TargetError) as caught:
        target_of(by_uri(uri), [])
    assert caught.value.code == code


def test_a_second_proxy_uri_is_refused() -> None:
    request = by_uri(f"coap://{HOST}/a").with_options([(options.PROXY_URI, f"coap://{HOST}/b".encode())])
    with pytest.raises(TargetError):
        target_of(request, [])


@pytest.mark.parametrize(
    ("domains", "found"),
    [
        ([], True),
        (["SG.YEL01.SSN.SSNSGS.NET"], True),
        (["other.net", "sg.yel01.ssn.ssnsgs.net."], True),
        (["other.net"], False),
        (["ssn.ssnsgs.net"], False),
    ],
)
def test_domains(domains: list[str], found: bool) -> None:
    assert (target_of(by_uri(f"coap://{HOST}/a"), domains).mac == MAC) is found
    assert target_of(by_uri(f"coap://{MAC}/a"), domains).mac == MAC, "a bare MAC has no domain"


def test_proxy_scheme_takes_the_uri_options() -> None:
    pairs = [
        (options.URI_HOST, HOST.lower().encode()),
        (options.URI_PORT, b"\x12\xf1"),
        (options.URI_PATH, b"a/b"),
        (options.URI_PATH, b""),
        (options.URI_QUERY, b"x"),
        (options.PROXY_SCHEME, b"coap"),
    ]
    request = Message(CON, codes.GET, 1, b"", tuple(pairs))
    target = target_of(request, [])
    assert (target.mac, target.path, target.query) == (MAC, (b"a/b", b""), (b"x",))
    assert is_proxied(request) and not is_proxied(request.without(options.PROXY_SCHEME))
    with pytest.raises(TargetError):
        target_of(request.without(options.URI_HOST), [])


def test_proxy_uri_goes_before_uri_options() -> None:
    request = by_uri(f"coap://{HOST}/a").with_options([(options.URI_PATH, b"b"), (options.PROXY_SCHEME, b"http")])
    assert target_of(request, []).path == (b"a",)


def test_the_access_token_is_taken_out_of_the_query() -> None:
    target = target_of(by_uri(f"coap://{HOST}/a?sens&access_token={300 * 'x'}&b"), [])
    assert (target.access_token, target.query) == (300 * "x", (b"sens", b"b"))


@given(st.binary(max_size=60))
def test_any_octets_are_a_target_or_refused(octets: bytes) -> None:
    for uri in (octets, b"coap://" + octets, f"coap://{HOST}/".encode() + octets):
        try:
            target_of(by_uri(uri), [])
        except TargetError as error:
            assert error.code in (codes.BAD_OPTION, codes.PROXYING_NOT_SUPPORTED)
