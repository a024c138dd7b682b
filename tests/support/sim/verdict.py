"""Outcomes of labs for the checkers, without a lab."""

from __future__ import annotations

from typing import Any

from sim.lab.labfile import Expect
from sim.units import MINUTE_NS


def limits(**expect: Any) -> Expect:
    """What a long lab expects, with every time limit, as `Lab.limits` gives it."""
    return Expect(
        **{
            "acknowledged_within": 5 * MINUTE_NS,
            "delivered_within": 10 * MINUTE_NS,
            "commands_within": 30 * MINUTE_NS,
        }
        | expect
    )
