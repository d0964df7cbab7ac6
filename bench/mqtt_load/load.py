"""A whole job of publishers and subscribers: how many messages arrive in a time."""

from __future__ import annotations

import select
import time
from typing import Final

from bench.mqtt_load.job import Job, LoadError, Outcome, processor_s
from bench.mqtt_load.publisher import Publisher
from bench.mqtt_load.subscriber import Subscriber
from bench.mqtt_load.wire import PATIENCE_S, RECEIVE_OCTETS, Wire

__all__ = ["Load"]

PACE_S: Final = 0.000_1
"""Rest between two looks at the sockets. A client that wakes up for every single packet slows a broker that writes
packet by packet down, and is then itself what is measured.
"""


class Load:
    """See the module."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._epoll = select.epoll()
        self._foreign = self._subscribe_foreign()
        self._subscribers = [Subscriber(self._listener(f"sub-{number}"), job) for number in range(job.subscribers)]
        for subscriber in self._subscribers:
            subscriber.wire.subscribe(["load/read/+"], job.qos)
        self._publishers = [Publisher(Wire(job, f"pub-{number}"), number, job) for number in range(job.publishers)]
        self._ends: dict[int, Publisher | Subscriber] = {}
        ends: list[Publisher | Subscriber] = [*self._subscribers, *self._publishers]
        for end in ends:
            end.wire.join(self._epoll)
            self._ends[end.wire.fd] = end

    def _subscribe_foreign(self) -> list[Wire]:
        count = self._job.foreign_filters
        if not count:
            return []
        wire = Wire(self._job, "foreign")
        wire.subscribe([f"load/other/{number}/+/x" for number in range(count)], 0)
        return [wire]

    def _listener(self, client_id: str) -> Wire:
        """With a session to keep: what an earlier job left of it is thrown away first."""
        wire = Wire(self._job, client_id)
        if not self._job.keep_session:
            return wire
        wire.sock.close()
        return Wire(self._job, client_id, clean=False)

    @property
    def received(self) -> int:
        return sum(subscriber.received for subscriber in self._subscribers)

    def measure(self) -> Outcome:
        for publisher in self._publishers:
            publisher.advance()
        self._turn_until(time.perf_counter() + self._job.warm_up_s)
        begin, before, used = time.perf_counter(), self.received, processor_s()
        self._turn_until(begin + self._job.seconds)
        end = time.perf_counter()
        return Outcome(self.received - before, end - begin, (processor_s() - used) / (end - begin))

    def _turn_until(self, deadline: float) -> None:
        quiet_since = time.perf_counter()
        while (now := time.perf_counter()) < deadline:
            if self._turn():
                quiet_since = now
            elif now - quiet_since > PATIENCE_S:
                raise LoadError("nothing comes any more")

    def _turn(self) -> bool:
        """One look at all sockets; True when there was something."""
        events = self._epoll.poll(0.1)
        ends = self._ends
        heard: list[Publisher] = []
        delivered = False
        for fd, event in events:
            end = ends[fd]
            if event & select.EPOLLOUT:
                end.wire.flush()
            if not event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                continue
            data = end.wire.sock.recv(RECEIVE_OCTETS)
            if not data:
                raise LoadError("connection closed")
            end.on_data(data)
            if isinstance(end, Publisher):
                heard.append(end)
            else:
                delivered = True
        if delivered:
            heard = self._credit(heard)
        for publisher in heard:
            publisher.advance()
        time.sleep(PACE_S)
        return bool(events)

    def _credit(self, heard: list[Publisher]) -> list[Publisher]:
        """Tells publishers what was delivered; returns those that may have room now."""
        publishers = self._publishers
        if len(publishers) == 1:
            publishers[0].delivered = min(subscriber.received for subscriber in self._subscribers)
            return publishers
        if len(publishers) > 256:  # one message in flight each: its acknowledgement is credit enough
            for publisher in publishers:
                publisher.delivered = publisher.sent
            return heard
        counts = self._subscribers[0].by_publisher
        touched = set(heard)
        for number, count in counts.items():
            publisher = publishers[number]
            publisher.delivered += count
            touched.add(publisher)
        counts.clear()
        return list(touched)
