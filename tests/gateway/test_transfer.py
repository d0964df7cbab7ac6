"""Devices in bulk: what is read from CSV and JSON, and the reason for every row that is not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.registry import Device, Registry
from gateway.registry.importing import import_devices
from gateway.registry.transfer import read_csv, read_json, write_csv, write_json
from meshwire.identity import DeviceId, TenantId

ACME, OTHER = TenantId("acme"), TenantId("other")
FIRST, SECOND = DeviceId("0000000000000001"), DeviceId("0000000000000002")


@pytest.mark.parametrize(
    "text",
    [
        "mac,tenant,type,domain,tags,enabled\n0000000000000001,acme,LNIC,x.net,b a,no\n",
        "\ufeffTenant;MAC;tags;enabled;type;domain\r\nacme;00:00:00:00:00:00:00:01;a|b;FALSE;LNIC;x.net\r\n\r\n",
        'mac,tenant,type,domain,tags,enabled\n"SSN0000000000000001.x.net",acme,LNIC,x.net,"a b",0',
    ],
)
def test_csv_in_its_spellings(text: str) -> None:
    table = read_csv(text)
    assert table.bad == [] and table.lines == [2]
    assert table.devices == [Device(FIRST, ACME, "LNIC", "x.net", False, tags=("a", "b"))]


@pytest.mark.parametrize(
    "tree",
    [
        [{"mac": "0000000000000001", "tenant": "acme", "type": "LNIC", "tags": ["a"]}],
        {"devices": [{"mac": "0000000000000001", "tenant": "acme", "type": "LNIC", "tags": "a", "enabled": True}]},
        {"devices": [{"id": "0000000000000001", "tenant": "acme", "deviceType": "LNIC", "tags": ["a"], "seen": 1.5}]},
        [{"deviceType": "LNIC", "domainInfo": {"nic_macID": "0000000000000001"}, "tenant": "acme", "tags": ["a"]}],
    ],
)
def test_json_in_its_spellings(tree: object) -> None:
    for text in (json.dumps(tree), json.dumps(tree, indent=2)):
        table = read_json(text)
        assert table.bad == [] and table.devices == [Device(FIRST, ACME, "LNIC", tags=("a",))]


def test_json_lines() -> None:
    lines = [json.dumps({"mac": mac.value, "tenant": "acme"}) for mac in (FIRST, SECOND)]
    table = read_json("\n".join([lines[0], "", lines[1], "{"]))
    assert [device.mac for device in table.devices] == [FIRST, SECOND] and table.lines == [1, 3]
    assert [row.line for row in table.bad] == [4]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("xyz,acme,,,,", "is no device"),
        (",acme,,,,", "is no device"),
        ("0000000000000001,a/b,,,,", "tenant id"),
        ("0000000000000001,acme,a b,,,", "device type"),
        ("0000000000000001,acme,,a..b,,", "domain"),
        ("0000000000000001,acme,,,#,", "tag"),
        ("0000000000000001,acme,,,,perhaps", "neither true nor false"),
        ("0000000000000001,acme", "2 cells"),
        ("0000000000000001,,,,,", "no tenant"),
        ("0000000000000009,acme,,,,", "stands in line 3 already"),
    ],
)
def test_a_bad_row_is_named_by_line_and_reason(row: str, words: str) -> None:
    heading = "mac,tenant,type,domain,tags,enabled\n"
    table = read_csv(f'{heading}0000000000000009,acme,,,"a\nb",\n{row}\n0000000000000002,acme,,,,\n')
    assert [device.mac.value[-1] for device in table.devices] == ["9", "2"]
    ((line, reason),) = [(bad.line, bad.reason) for bad in table.bad]
    assert line == 4 and words in reason


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (read_csv, "", "no column mac"),
        (read_csv, "tenant,type\n", "no column mac"),
        (read_csv, "mac,colour\n", "'colour'"),
        (read_csv, "mac,mac\n", "twice"),
        (read_json, "", "no JSON"),
        (read_json, "[1]", "an object"),
        (read_json, "1", "neither an array"),
        (read_json, '[{"mac": 1, "tenant": "acme"}]', "mac is no text"),
        (read_json, '[{"mac": "0000000000000001", "colour": "red"}]', "'colour'"),
        (read_json, '[{"mac": "0000000000000001", "tenant": "acme", "tags": [1]}]', "tags"),
        (read_json, '[{"mac": "0000000000000001", "tenant": "acme", "enabled": 7}]', "enabled"),
    ],
)
def test_what_is_no_table(read: object, text: str, words: str) -> None:
    table = read(text)  # type: ignore[operator]
    assert table.devices == [] and len(table.bad) == 1 and words in table.bad[0].reason


def test_all_rows_or_none_unless_the_good_ones_are_asked_for() -> None:
    registry = Registry(None)
    registry.add_device(SECOND, OTHER)
    table = read_csv("mac\n0000000000000001\nxyz\n0000000000000002\n", ACME)
    done = import_devices(registry, table)
    assert (done.added, [row.line for row in done.refused]) == (0, [3, 4]) and registry.device(FIRST) is None
    assert "other" not in done.refused[1].reason, "who owns what is nobody else's business"
    done = import_devices(registry, table, good_rows_only=True, try_only=True)
    assert (done.added, len(done.refused)) == (1, 2) and registry.device(FIRST) is None
    import_devices(registry, table, good_rows_only=True)
    device = registry.device(FIRST)
    assert device is not None and device.tenant == ACME


_DEVICES = st.builds(
    Device,
    st.from_regex(r"[0-9a-f]{16}", fullmatch=True).map(DeviceId),
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True).map(TenantId),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}", fullmatch=True),
    st.sampled_from(["", "x", "SG.YEL01.SSN.NET"]),
    st.booleans(),
    tags=st.sets(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:=@/-]{0,20}", fullmatch=True), max_size=5).map(
        lambda tags: tuple(sorted(tags))
    ),
)


@settings(max_examples=40)
@given(st.lists(_DEVICES, max_size=8, unique_by=lambda device: device.mac))
def test_what_is_written_is_read(devices: list[Device]) -> None:
    assert read_csv(write_csv(devices)).devices == devices
    assert read_json(write_json(devices)).devices == devices


@given(st.text())
def test_no_text_breaks_the_readers(text: str) -> None:
    read_csv(text)
    read_csv("mac,tags\n" + text)
    read_json(text)
