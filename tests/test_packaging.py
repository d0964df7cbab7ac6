"""The installed names are ours, and the tests are not shipped."""

import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


@pytest.mark.parametrize("name", PACKAGES)
def test_each_top_level_name_is_our_own_file(name: str) -> None:
    """`broker` and its like collide with other distributions when environments are shared."""
    assert Path(str(importlib.import_module(name).__file__)).parent == ROOT / name


def test_tests_are_not_shipped() -> None:
    assert "tests" not in PACKAGES
    assert "tests" not in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]


def test_no_package_file_below_tests_shadows_a_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_the_version_is_one() -> None:
    assert importlib.import_module("meshwire").__version__ == PROJECT["project"]["version"]


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-test.lock"])
def test_a_lock_file_has_hashes_and_no_addresses(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "aiocoap==0.4.17" in text
    assert "--hash=sha256:" in text
    assert "http" not in text.replace("httptools", "").replace("httpx", "")
