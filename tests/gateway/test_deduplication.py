"""What is remembered of notifications that came in: how many keys of how many devices, how long, in how much room."""

from __future__ import annotations

import tracemalloc

from gateway.deduplication import KEY_DEVICES, KEYS_A_DEVICE, RecentKeys


def key(device: int, number: int) -> bytes:
    return b"%016x/snsr/arduino/temp/1764355555/%d" % (device, number)


def test_the_latest_keys_of_a_device_are_known_and_no_others() -> None:
    recent = RecentKeys(100.0, keys=4)
    for number in range(10):
        recent.add(key(1, number), 0.0)
    assert [number for number in range(11) if key(1, number) in recent] == [6, 7, 8, 9]
    assert key(2, 9) not in recent


def test_devices_heard_longest_ago_are_forgotten_first() -> None:
    recent = RecentKeys(1e9, devices=100)
    recent.add(key(0, 0), 0.0)
    for device in range(1, 1000):
        recent.add(key(device, 0), 0.0)
        if device % 50 == 0:
            recent.add(key(0, device), 0.0)
        assert len(recent) <= 200
    assert key(0, 950) in recent and key(0, 0) in recent, "it goes on sending, so it keeps what it has"
    assert all(key(device, 0) in recent for device in range(900, 1000))
    assert key(1, 0) not in recent


def test_a_silent_device_is_forgotten_between_one_and_two_lifetimes() -> None:
    recent = RecentKeys(100.0)
    recent.add(key(1, 0), 50.0)
    recent.add(key(2, 0), 149.0)
    assert key(1, 0) in recent
    recent.add(key(2, 1), 250.0)
    assert key(1, 0) in recent
    recent.add(key(2, 2), 351.0)
    assert key(1, 0) not in recent and key(2, 0) in recent


def test_a_run_of_octets_astride_of_two_keys_is_none() -> None:
    recent = RecentKeys(100.0)
    for number in range(2):
        recent.add(key(1, number), 0.0)
    device = key(1, 0)[:16]
    digests = recent._young[device]
    asked = key(1, 5)
    wanted = hash(asked).to_bytes(8, "little", signed=True)
    recent._young[device] = digests[:3] + wanted + digests[:5]
    assert asked not in recent
    recent._young[device] = digests[:3] + wanted + digests[:5] + wanted
    assert asked in recent


def test_the_room_for_each_device_is_bounded() -> None:
    """100,000 devices are remembered at least, 200,000 at most: some 140 MB."""
    recent, devices = RecentKeys(1e9), 500
    tracemalloc.start()
    try:
        for number in range(3 * KEYS_A_DEVICE):
            for device in range(devices):
                recent.add(key(device, number), 0.0)
        octets, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (KEYS_A_DEVICE, KEY_DEVICES) == (64, 100_000)
    assert octets / devices < 720
