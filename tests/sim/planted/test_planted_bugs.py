"""Labs detect every planted bug, and pass without it."""

from __future__ import annotations

import pytest

from sim.worlds import run_lab
from tests.sim.planted.bugs import PLANTED
from tests.sim.planted.labs import LABS, lab


@pytest.mark.parametrize("name", LABS)
def test_a_lab_passes_without_a_bug(name: str) -> None:
    result = run_lab(lab(name))
    assert result.verdict == "pass", result.failures


@pytest.mark.parametrize("bug", PLANTED)
def test_a_lab_detects_the_bug(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, expectation, plant = PLANTED[bug]
    plant(monkeypatch)
    result = run_lab(lab(name))
    failed = {one.name for one in result.expectations if not one.holds}
    assert expectation in failed, (failed, result.reports)
    assert result.verdict == "fail"
