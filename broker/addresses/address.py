"""What an address is: a name in a tenant's space, one of four types, and its bounds. Data and pure functions.

Leaves to `space` which addresses there are, to `competing`, `spreading` and `engine` what happens to a message.
"""

from enum import StrEnum
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from meshwire.identity import IdentityError, TenantId
from meshwire.topics import TopicError, address_topic, validate_filter

__all__ = ["Address", "AddressType", "clamp_ttl", "intersect"]

MAX_NAME_CHARACTERS: Final = 256


class AddressType(StrEnum):
    """How messages travel from senders to receivers."""

    QUEUE = "queue"
    """Stored; each message goes to one of the competing receivers."""
    TOPIC = "topic"
    """Stored; each subscription gets each message."""
    ANYCAST = "anycast"
    """Direct; each message goes to one of the receivers that are there, and the sender learns when it took it."""
    MULTICAST = "multicast"
    """Direct; each message goes to all receivers that are there."""

    @property
    def is_stored(self) -> bool:
        """The broker owns the message; the receiver may come later."""
        return self in (AddressType.QUEUE, AddressType.TOPIC)

    @property
    def is_competing(self) -> bool:
        """One receiver gets the message."""
        return self in (AddressType.QUEUE, AddressType.ANYCAST)


class Address(BaseModel):
    """One address as an operator defines it.

    Raises:
        ValueError: (by pydantic) a name, filter or bound that may not be, or a bound the type has no use for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: str
    name: str = Field(min_length=1, max_length=MAX_NAME_CHARACTERS)
    type: AddressType
    filter: str | None = None
    """Topics below the tenant that are the address, such as `read/#`; absent: `address/NAME`."""
    min_ttl_s: int | None = Field(default=None, ge=1, le=0xFFFF_FFFE)
    """A message that asks for a shorter life gets this one."""
    max_ttl_s: int | None = Field(default=None, ge=1, le=0xFFFF_FFFE)
    """A message that asks for a longer life, or none at all, gets this one."""
    max_messages: int = Field(default=50_000, ge=1)
    """Queue: most messages stored; then senders are refused."""
    max_octets: int = Field(default=67_108_864, ge=1_024)
    """Queue: the same by size, octets of topic, payload and MQTT 5 properties; a user property counts 50 more."""
    max_waiting: int = Field(default=1_000, ge=1, le=65_535)
    """Anycast: most messages that wait unacknowledged for a receiver that is busy."""
    max_deliveries: int = Field(default=10, ge=1, le=1_000)
    """Queue, anycast: how often a message is handed out before it is given up."""
    dead_letter: str | None = None
    """Queue, anycast: address of the same tenant for messages that are given up; absent: they are dropped."""
    expired_to: str | None = None
    """Queue, anycast: address of the same tenant for messages whose life ended; absent: they are dropped."""

    @property
    def topic_filter(self) -> str:
        """The filter that receivers subscribe to; senders publish to topics under it."""
        return address_topic(self.tenant, self.name) if not self.filter else f"{self.tenant}/{self.filter}"

    @property
    def topic(self) -> str | None:
        """The one topic of the address; None where its filter has wildcards."""
        text = self.topic_filter
        return None if "+" in text or "#" in text else text

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        try:
            TenantId(self.tenant)
            validate_filter(self.topic_filter)
        except (IdentityError, TopicError) as error:
            raise ValueError(str(error)) from None
        if any(mark in self.name for mark in "+#\t\n") or self.name != self.name.strip():
            raise ValueError(f"name {self.name!r} holds a wildcard, or white space at an end")
        if self.min_ttl_s is not None and self.max_ttl_s is not None and self.min_ttl_s > self.max_ttl_s:
            raise ValueError("min_ttl_s is above max_ttl_s")
        if self.name in (self.dead_letter, self.expired_to):
            raise ValueError("an address can't be its own dead-letter address")
        if self.type is not AddressType.QUEUE:
            self._refuse("max_messages", "max_octets")
        if self.type is not AddressType.ANYCAST:
            self._refuse("max_waiting")
        if not self.type.is_competing:
            self._refuse("max_deliveries", "dead_letter", "expired_to")
        return self

    def _refuse(self, *fields: str) -> None:
        for name in fields:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"an address of type {self.type} has no use for {name}")


def clamp_ttl(ttl_s: float | None, least_s: float | None, most_s: float | None) -> float | None:
    """The life a message gets, in seconds; None: without end. The maximum holds also for who asks for no end."""
    if most_s is not None and (ttl_s is None or ttl_s > most_s):
        return most_s
    if ttl_s is not None and least_s is not None and ttl_s < least_s:
        return least_s
    return ttl_s


def intersect(one: str, other: str) -> bool:
    """Whether a topic exists that both filters select (MQTT 5.0 section 4.7)."""
    left, right = one.split("/"), other.split("/")
    for a, b in zip(left, right, strict=False):
        if "#" in (a, b):
            return True
        if a != b and "+" not in (a, b):
            return False
    longer = left if len(left) > len(right) else right
    shared = min(len(left), len(right))
    return len(left) == len(right) or longer[shared:] == ["#"]
