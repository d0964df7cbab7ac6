"""The copies for aliases: written before the bridge's own record, and never in the way of it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.aliases.packets import AliasPackets
from gateway.aliases.records import PublishRule
from gateway.aliases.tee import AliasQueue, Tee
from gateway.envelope import StoredNotification, pack
from gateway.outbox import Outbox
from gateway.settings import BridgeSettings
from gateway.statistics import Event, Statistics
from gateway.storage import MemoryStorage, Segment
from meshwire.identity import DeviceId, TenantId
from meshwire.notification import Notification


class Disk(MemoryStorage):
    """Notes who writes, in order; fails when told."""

    def __init__(self, name: str, order: list[str]) -> None:
        super().__init__()
        self.label, self.order, self.is_broken = name, order, False

    def begin(self, base: int) -> Segment:
        segment: Any = super().begin(base)
        append = segment.append

        def write(octets: bytes) -> None:
            self.order.append(self.label)
            if self.is_broken:
                raise OSError(28, "No space left on device")
            append(octets)

        segment.append = write
        return segment  # type: ignore[no-any-return]


class Bench:
    def __init__(self, *rules: dict[str, Any]) -> None:
        self.order: list[str] = []
        self.disks = [Disk(name, self.order) for name in ("main", *map(str, range(len(rules))))]
        self.outbox, *outboxes = (Outbox(disk, max_octets=1 << 16, segment_octets=1 << 16) for disk in self.disks)
        self.queues = [
            AliasQueue(str(number), outbox, AliasPackets([PublishRule(**rule)], BridgeSettings()), Statistics())
            for number, (rule, outbox) in enumerate(zip(rules, outboxes, strict=True))
        ]
        self.tee = Tee(self.outbox, lambda: self.queues)

    def store(self, tenant: str = "acme") -> None:
        notification = Notification(DeviceId("001350050047dc9a"), "p", 1, 1, 60, b"x", 1.0)
        self.outbox.append(pack(StoredNotification(TenantId(tenant), notification)), 1)

    def commit(self) -> None:
        commit = self.tee.begin_commit()
        assert commit is not None
        try:
            commit.write(sync=True)
        except OSError:
            self.tee.fail_commit(commit)
        else:
            self.tee.finish_commit(commit)

    def depths(self) -> list[int]:
        return [outbox.status(0).depth for outbox in (self.outbox, *(queue.outbox for queue in self.queues))]


def test_copies_are_written_first_and_only_where_they_are_wanted() -> None:
    bench = Bench({}, {"tenant": "other"}, {"tenant": "acme"})
    bench.store("acme")
    bench.store("other")
    bench.commit()
    assert bench.order == ["0", "1", "2", "main"]
    assert bench.depths() == [2, 2, 1, 1]
    assert bench.queues[0].outbox.read(1)[0].payload == bench.outbox.read(1)[0].payload


def test_a_disk_that_fails_for_an_alias_is_its_loss_alone() -> None:
    bench = Bench({}, {})
    bench.disks[1].is_broken = True
    bench.store()
    bench.commit()
    assert bench.depths() == [1, 0, 1]
    assert bench.queues[0].statistics.by_reason(Event.LOST) == {"disk": 1}
    bench.disks[1].is_broken = False
    bench.store()
    bench.commit()
    assert bench.depths() == [2, 1, 2]


def test_copies_stay_when_the_outbox_fails_for_the_senders_come_again() -> None:
    bench = Bench({})
    bench.disks[0].is_broken = True
    bench.store()
    bench.commit()
    assert bench.depths() == [0, 1]


def test_a_queue_that_is_closed_during_a_commit_is_closed_after_it() -> None:
    bench = Bench({})
    bench.store()
    commit = bench.tee.begin_commit()
    assert commit is not None
    (queue,) = bench.queues
    bench.queues.clear()
    queue.close()
    commit.write(sync=True)
    bench.tee.finish_commit(commit)
    assert queue.outbox.status(0).depth == 1
    bench.store()
    bench.commit()
    assert bench.outbox.status(0).depth == 2


@pytest.mark.parametrize("rule", [{}, {"tenant": "acme"}])
def test_without_queues_the_outbox_commits_as_ever(rule: dict[str, Any]) -> None:
    bench = Bench(rule)
    bench.queues.clear()
    bench.store()
    bench.commit()
    assert bench.order == ["main"]
