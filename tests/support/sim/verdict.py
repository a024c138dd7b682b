"""Expectations of a lab for tests of the checks."""

from __future__ import annotations

from typing import Any

from sim.lab.labfile import Expect
from sim.units import MINUTE_NS


def limits(**expect: Any) -> Expect:
    """Return the expectations of a long lab with every time limit, as `Lab.limits` gives them."""
    return Expect(
        **{
            "acknowledged_within": 5 * MINUTE_NS,
            "delivered_within": 10 * MINUTE_NS,
            "commands_within": 30 * MINUTE_NS,
        }
        | expect
    )
