"""Fixtures for the HDLC tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _load(name: str) -> ModuleType:
    """Import a neighbour of this file: tests are no package."""
    qualified = f"hdlc_tests_{name}"
    if qualified in sys.modules:
        return sys.modules[qualified]
    spec = importlib.util.spec_from_file_location(qualified, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[qualified] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def line() -> ModuleType:
    """The module with TwoStations and Faults."""
    return _load("line_harness")


@pytest.fixture(scope="session")
def text() -> ModuleType:
    """The module with frames as text and Desk."""
    return _load("frame_text")
