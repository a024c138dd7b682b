"""The checks of access control detect every planted hole, and report its route."""

from __future__ import annotations

import pytest

from tests.datacenter.access.planted.holes import PLANTED
from tests.support.datacenter.access.checks import CHECKS, walking


@pytest.mark.parametrize("hole", PLANTED)
def test_a_check_finds_the_hole(hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, finding, plant = PLANTED[hole]
    plant(monkeypatch)
    with walking() as walk:
        assert any(finding in line for line in CHECKS[name](walk)), f"{name} reports no {finding!r}"


def test_every_check_finds_a_hole() -> None:
    assert {name for name, _, _ in PLANTED.values()} == set(CHECKS)
    assert len(PLANTED) >= 20
