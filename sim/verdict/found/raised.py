"""Compares the alerts that a lab expects of the data center's triggers with those that were raised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sim.lab.labfile import ExpectedAlert
from sim.verdict.result import RaisedAlert


class AlertComparison(NamedTuple):
    """The expected alerts that were not raised in time, and the alerts that were not expected."""

    missing: list[ExpectedAlert]
    false: list[RaisedAlert]


def compare(
    expected: Sequence[ExpectedAlert], raised: Sequence[RaisedAlert], since_ns: int
) -> AlertComparison:
    """Assign to each expected alert the earliest raised alert of its trigger; the limits count from `since_ns`.

    A late alert counts as missing, not as false.
    """
    rest = sorted(raised, key=lambda one: (one.raised_ns, one.trigger, one.source))
    missing = []
    for wanted in sorted(expected, key=lambda one: one.within):
        match = next((alert for alert in rest if alert.trigger == wanted.trigger), None)
        if match is not None:
            rest.remove(match)
        if match is None or match.raised_ns > since_ns + wanted.within:
            missing.append(wanted)
    return AlertComparison(missing, rest)
