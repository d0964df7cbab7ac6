"""What survives a restart of the NIC."""

from __future__ import annotations

from pathlib import Path

import pytest

from nic_sim.observation import Observation
from nic_sim.observation_store import Clocks, ObservationStore

NOW = Clocks(now_s=100.0, unix_s=1_760_000_100.0)


def item(path: str = "snsr/a/b", query: str | None = "sens") -> Observation:
    return Observation(path, query, b"\x09\x09\x09\x09")


def saved(path: Path) -> Observation:
    before = Observation("snsr/a/b", "sens", b"\1\2\3\4", epoch=17, sequence=99, sequence_at_s=90.0)
    before.notifications, before.registrations, before.duplicates, before.stale = 5, 4, 3, 2
    ObservationStore(path).save([before], NOW)
    return before


def test_token_epoch_sequence_and_counters_survive(tmp_path: Path) -> None:
    saved(tmp_path / "o.json")
    after = item()
    ObservationStore(tmp_path / "o.json").restore(after, Clocks(now_s=5.0, unix_s=1_760_000_130.0))
    assert (after.token, after.epoch, after.sequence) == (b"\1\2\3\4", 17, 99)
    assert after.sequence_at_s == pytest.approx(5.0 - 40.0), "40 s have passed on the wall since it was heard"
    assert (after.notifications, after.registrations, after.duplicates, after.stale) == (5, 4, 3, 2)


def test_what_was_never_seen_begins_at_the_unix_time(tmp_path: Path) -> None:
    saved(tmp_path / "o.json")
    after = item(query=None)
    ObservationStore(tmp_path / "o.json").restore(after, NOW)
    assert (after.token, after.epoch, after.sequence) == (b"\x09\x09\x09\x09", 1_760_000_100, None)


def test_clock_that_was_set_back_does_not_make_the_future(tmp_path: Path) -> None:
    saved(tmp_path / "o.json")
    after = item()
    ObservationStore(tmp_path / "o.json").restore(after, Clocks(now_s=5.0, unix_s=1.0))
    assert after.sequence_at_s == 5.0


def test_resources_that_are_no_longer_configured_keep_their_epochs(tmp_path: Path) -> None:
    saved(tmp_path / "o.json")
    store = ObservationStore(tmp_path / "o.json")
    store.save([item("snsr/other/one")], NOW)
    again = item()
    ObservationStore(tmp_path / "o.json").restore(again, NOW)
    assert again.epoch == 17
    assert ObservationStore(tmp_path / "o.json").tokens() == {b"\1\2\3\4", b"\x09\x09\x09\x09"}


def test_records_are_bounded(tmp_path: Path) -> None:
    store = ObservationStore(tmp_path / "o.json")
    for number in range(200):
        store.save([item(f"snsr/a/{number}")], NOW)
    assert (tmp_path / "o.json").stat().st_size < 64 * 400


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": 2}', b"\xff\xfe", b'{"version": 1, "observations": [{}]}']
)
def test_damaged_file_is_set_aside(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "o.json"
    path.write_bytes(content)
    after = item()
    ObservationStore(path).restore(after, NOW)
    assert after.epoch == 1_760_000_100
    assert (tmp_path / "o.damaged").read_bytes() == content
    ObservationStore(path).save([after], NOW)


def test_folder_that_is_gone_is_counted_not_fatal(tmp_path: Path) -> None:
    store = ObservationStore(tmp_path / "gone" / "o.json")
    store.save([item()], NOW)
    assert store.failures == 1
    (tmp_path / "gone").mkdir()
    store.save([item()], NOW)
    assert store.failures == 0
    assert not list((tmp_path / "gone").glob(".*"))
