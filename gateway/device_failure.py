"""Why a request got no answer from a device; the message of each is for people."""

from __future__ import annotations

__all__ = ["DeviceBusy", "DeviceFailure", "DeviceRefused", "DeviceSilent", "DeviceUnreachable"]


class DeviceFailure(Exception):
    """A request got no answer from a device."""


class DeviceUnreachable(DeviceFailure):
    """The network says that nobody is there, or nobody knows where the device is."""


class DeviceBusy(DeviceUnreachable):
    """More requests wait for the device than may."""


class DeviceSilent(DeviceFailure):
    """No answer in time."""


class DeviceRefused(DeviceFailure):
    """The device rejected the message with a Reset, or answered what can't be used."""
