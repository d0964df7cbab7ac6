"""What each tenant may use, and uses: connections, message rate, queued messages and octets; and the same for the whole
broker.

Pure bookkeeping: sessions and connections report, and ask before they take more. Who is over the bound of its plan is
told so; nobody else notices.
"""

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from broker.statistics import Drop

__all__ = ["Plan", "Tenant", "Tenants"]

BURST_S: Final = 1.0
"""A tenant that was quiet may send so many seconds' worth at once."""
FULL_LEVEL: Final = 0.99
"""Of the broker's bound for all queues, from which on publishers are slowed."""
LONGEST_PAUSE_S: Final = 10.0
"""What a tenant is ahead of its rate is not counted beyond so many seconds' worth."""


class Plan(BaseModel):
    """Bounds of one tenant; absent: none but the broker's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_connections: int | None = Field(default=None, ge=0)
    max_messages_per_s: float | None = Field(default=None, gt=0)
    """Over all its publishers; who is faster is read more slowly, nothing is lost."""
    max_queued_messages: int | None = Field(default=None, ge=0)
    """Over all its clients."""
    max_queued_octets: int | None = Field(default=None, ge=0)
    max_payload_octets: int | None = Field(default=None, ge=0)
    max_addresses: int | None = Field(default=None, ge=0)
    """Queues, topics, anycast and multicast addresses; what queues hold counts as queued."""


NO_PLAN: Final = Plan()


class Tenant:
    """The account of one tenant.

    Args:
        plan: its bounds.
        total: the account of the whole broker; None: this is it.
    """

    __slots__ = (
        "_max_octets",
        "_max_queued",
        "_refill_at",
        "_tokens",
        "_total",
        "connections",
        "is_rated",
        "plan",
        "queued_messages",
        "queued_octets",
    )

    def __init__(self, plan: Plan = NO_PLAN, total: "Tenant | None" = None) -> None:
        self.plan = plan
        self.is_rated = plan.max_messages_per_s is not None
        """Whether `pause_s` need be asked; spares a call for every message."""
        self.connections = 0
        self.queued_messages = 0
        self.queued_octets = 0
        self._total = total
        self._max_queued = plan.max_queued_messages
        self._max_octets = plan.max_queued_octets
        self._tokens = (plan.max_messages_per_s or 0.0) * BURST_S
        self._refill_at: float | None = None

    # --- connections --------------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """One more connection is allowed."""
        most = self.plan.max_connections
        return most is None or self.connections < most

    # --- queues -------------------------------------------------------------------------------------------------------

    def refusal(self, octets: int) -> Drop | None:
        """Why one more message of this size may not be queued; None: it may."""
        most, most_octets = self._max_queued, self._max_octets
        if (most is not None and self.queued_messages >= most) or (
            most_octets is not None and self.queued_octets + octets > most_octets
        ):
            return Drop.TENANT_QUEUE_FULL
        if self._total is not None and self._total.refusal(octets) is not None:
            return Drop.BROKER_FULL
        return None

    def queued(self, messages: int, octets: int) -> None:
        """So many more wait; negative: fewer."""
        self.queued_messages += messages
        self.queued_octets += octets
        if self._total is not None:
            self._total.queued(messages, octets)

    # --- rate ---------------------------------------------------------------------------------------------------------

    def published(self) -> None:
        """One message was taken from a publisher."""
        self._tokens -= 1.0

    def pause_s(self, now: float) -> float:
        """How long the tenant's publishers are not to be read; 0.0: not at all."""
        rate = self.plan.max_messages_per_s
        if rate is None:
            return 0.0
        if self._refill_at is not None:
            self._tokens = min(self._tokens + (now - self._refill_at) * rate, rate * BURST_S)
        self._refill_at = now
        if self._tokens >= 0:
            return 0.0
        self._tokens = max(self._tokens, -rate * LONGEST_PAUSE_S)
        return -self._tokens / rate


class Tenants:
    """All accounts.

    Args:
        default: plan of a tenant without one of its own.
        plans: by tenant id.
        max_queued_octets: of all queues of the broker.
    """

    def __init__(
        self, default: Plan = NO_PLAN, plans: Mapping[str, Plan] | None = None, max_queued_octets: int = 2**62
    ):
        self.total = Tenant(Plan(max_queued_octets=max_queued_octets))
        self.full_octets = max_queued_octets * FULL_LEVEL
        """Of all queues together, from which on publishers are slowed."""
        self._max_queued_octets = max_queued_octets
        self._default = default
        self._plans = plans or {}
        self._known: dict[str, Tenant] = {}

    def of(self, tenant: str) -> Tenant:
        """The account of a tenant; made when first asked for."""
        found = self._known.get(tenant)
        if found is None:
            found = self._known[tenant] = Tenant(self._plans.get(tenant, self._default), self.total)
        return found

    def items(self) -> list[tuple[str, Tenant]]:
        """Every tenant seen so far."""
        return sorted(self._known.items())

    @property
    def is_full(self) -> bool:
        """Messages are dropped because all queues together are at their bound."""
        return self.total.queued_octets >= self.full_octets

    @property
    def level(self) -> float:
        """How full the queues of the broker are, 0.0 to 1.0."""
        return min(1.0, self.total.queued_octets / max(1, self._max_queued_octets))
