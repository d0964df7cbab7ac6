"""Each way to be broken is found by the case meant for it, and blamed on no other group."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import hardware.conform
from hardware.conform.case import Result, Verdict
from hardware.conform.catalogue import choose


def _load(name: str) -> ModuleType:
    """A module beside this one: tests are no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


mutant = _load("mutant")
KNOWN = set(tomllib.loads((Path(hardware.conform.__file__).parent / "expected.toml").read_text())["standard"])


@pytest.mark.parametrize("variant", mutant.VARIANTS, ids=str)
def test_the_case_meant_for_it_fails_and_no_other_group(
    variant: mutant.Variant, conform: Callable[..., dict[str, Result]]
) -> None:
    results = conform("standard", choose(), wrap=variant.wrap)
    failed = {name: r for name, r in results.items() if r.outcome.verdict is Verdict.FAIL and name not in KNOWN}
    assert variant.case in failed
    assert {name: r.outcome.seen for name, r in failed.items() if r.case.group is not variant.group} == {}


def test_there_are_at_least_twenty_of_them_in_every_group() -> None:
    assert len(mutant.VARIANTS) >= 20
    assert {variant.group for variant in mutant.VARIANTS} == {case.group for case in choose()}
