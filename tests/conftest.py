"""What holds for every test: logging as it was, and no verdict about how quick the machine is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

settings.register_profile("meshwire", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("meshwire")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command run in this process sends the log to its own stderr, which is closed when the test is over."""
    yield
    structlog.reset_defaults()
