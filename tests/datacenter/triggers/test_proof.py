"""Impossible conditions and implied triggers are detected."""

from __future__ import annotations

import pytest

from datacenter.triggers.proof import can_fire, implies
from tests.support.datacenter.evaluation.triggers import trigger


@pytest.mark.parametrize(
    ("when", "possible"),
    [
        ("water-conductivity-ns > 50", True),
        ("water-conductivity-ns > 50 and water-conductivity-ns < 50", False),
        ("water-conductivity-ns > 50 and not water-conductivity-ns > 51", True),
        ("2 * water-conductivity-ns > 50 and water-conductivity-ns < 26", False),
        ("waste-pct > 100", False),
        ("waste-pct >= 100", True),
        ("ewma(waste-pct, 8) > 100", False),
        ("max(waste-pct, 1h) - 2 * waste-pct > 101", False),
        ("change(waste-pct, 1h) > 100", False),
        ("count(L0100, 1h) < 0", False),
        ("cusum-high(waste-pct, 100, 1) > 0", False),
        ("cusum-high(waste-pct, 50, 1) > 1000", True),
        ("state is stopped and state is running", False),
        ("state is not stopped and state is not running", True),
        ("tests-left(na) < 0", False),
        ("base(vacuum-pa, 95) < base(vacuum-pa, 5)", False),
        ("vacuum-pa < base(vacuum-pa, 5) and vacuum-pa > base(vacuum-pa, 50)", False),
        ("vacuum-pa < base(vacuum-pa, 50) and vacuum-pa > base(vacuum-pa, 5)", True),
        ("base(vacuum-pa, 95) < base(reaction-temp-mc, 5)", True),
        ("base(waste-pct, 99) > 100", False),
        ('westgard(glu, "1-3s") and not westgard(glu, "1-3s")', False),
    ],
)
def test_whether_a_condition_is_possible(when: str, possible: bool) -> None:
    assert can_fire(trigger(when)) is possible


@pytest.mark.parametrize(
    ("first", "second", "is_implied"),
    [
        ("waste-pct > 90", "waste-pct > 80", True),
        ("waste-pct > base(waste-pct, 95)", "waste-pct > base(waste-pct, 90)", True),
        ("waste-pct > base(waste-pct, 90)", "waste-pct > base(waste-pct, 95)", False),
        ("waste-pct > 80", "waste-pct > 90", False),
        ("waste-pct > 90 and state is running", "waste-pct > 90", True),
        ("waste-pct > 90", "waste-pct > 90 or state is running", True),
        ("waste-pct > 90", "ewma(waste-pct, 3) > 80", False),
    ],
)
def test_whether_a_trigger_implies_another(first: str, second: str, is_implied: bool) -> None:
    assert implies(trigger(first), trigger(second)) is is_implied


def test_a_trigger_that_waits_less_does_not_imply_one_that_waits_longer() -> None:
    short, long = trigger("waste-pct > 90", lasts="1min"), trigger("waste-pct > 80", lasts="1h")
    assert not implies(short, long)
    assert implies(long, trigger("waste-pct > 70", lasts="1min"))
