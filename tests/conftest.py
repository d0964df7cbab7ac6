"""What holds for every test: long files first, logging as it was, and no verdict about how quick the machine is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import structlog
from hypothesis import HealthCheck, settings

settings.register_profile("meshwire", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("meshwire")


LONG: Final = tuple(Path(__file__).parent / folder for folder in ("docs", "e2e"))
"""Few tests to a file, each with processes of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first: workers that take files in turn then end at the same time."""
    items.sort(key=lambda item: not any(item.path.is_relative_to(folder) for folder in LONG))


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command run in this process sends the log to its own stderr, which is closed when the test is over."""
    yield
    structlog.reset_defaults()
