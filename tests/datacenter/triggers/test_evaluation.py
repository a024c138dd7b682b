"""Each term and each part of a trigger has the value that its definition demands, report by report."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from datacenter.triggers.live import LiveEvaluator, LiveFunctions
from datacenter.triggers.terms.term import ABSENT
from tests.support.datacenter.evaluation.triggers import trigger
from wire.messages import Alert, Calibration, InstrumentReport, Inventory, Quality, State, Status

MINUTE, HOUR = 60_000, 3_600_000


def reading(at_ms: int, value: int, state: State = "running") -> Status:
    return Status(1, at_ms, state, 0, {"water-conductivity-ns": value})


def quality(at_ms: int, deviation: int, level: int = 1) -> Quality:
    return Quality(1, at_ms, "glu", level, deviation)


def times_active(
    when: str, reports: Sequence[InstrumentReport], *, until: str = "", lasts: str = ""
) -> list[tuple[int, bool]]:
    """Return the times (ms) at which alerts of the condition begin (True) and end (False)."""
    evaluator = LiveEvaluator(LiveFunctions([trigger(when, until=until, lasts=lasts)]))
    return [(one.at_ms, one.is_active) for report in reports for one in evaluator.evaluate(report)]


def readings(*values: int, step_ms: int = MINUTE) -> list[InstrumentReport]:
    """Return status reports with these conductivities at intervals of `step_ms`."""
    return [reading(at * step_ms, value) for at, value in enumerate(values)]


@pytest.mark.parametrize(
    ("when", "values", "changes"),
    [
        ("water-conductivity-ns > 50", (50, 51, 51, 50), [(1, True), (3, False)]),
        ("water-conductivity-ns >= 50", (49, 50), [(1, True)]),
        ("water-conductivity-ns < 50", (50, 49), [(1, True)]),
        ("50 >= water-conductivity-ns", (51, 50), [(1, True)]),
        ("not water-conductivity-ns > 50", (51, 50), [(1, True)]),
        ("2 * water-conductivity-ns - 10 > 91 / 1", (50, 51), [(1, True)]),
        ("water-conductivity-ns / 3 > 33.4", (100, 101), [(1, True)]),
        ("water-conductivity-ns > normal-high(water-conductivity-ns)", (100, 101), [(1, True)]),
        ("water-conductivity-ns > 50 and water-conductivity-ns < 60", (60, 55), [(1, True)]),
        (
            "water-conductivity-ns > 50 or water-conductivity-ns < 10",
            (20, 9, 60, 20),
            [(1, True), (3, False)],
        ),
        (
            "not (water-conductivity-ns > 50 or water-conductivity-ns < 10)",
            (9, 20, 60),
            [(1, True), (2, False)],
        ),
        ("ewma(water-conductivity-ns, 2) > 50", (0, 100, 100), [(2, True)]),
        ("cusum-high(water-conductivity-ns, 50, 2) > 10", (50, 58, 57, 0), [(2, True), (3, False)]),
        ("cusum-low(water-conductivity-ns, 50, 2) > 10", (50, 42, 43, 100), [(2, True), (3, False)]),
    ],
)
def test_conditions_of_readings(when: str, values: tuple[int, ...], changes: list[tuple[int, bool]]) -> None:
    assert times_active(when, readings(*values)) == [(at * MINUTE, active) for at, active in changes]


@pytest.mark.parametrize(
    "when", ["water-conductivity-ns > -1", "not water-conductivity-ns > -1", "not lamp-h > 5"]
)
def test_a_condition_of_an_unknown_reading_is_false(when: str) -> None:
    other_reading = Status(1, 0, "running", 0, {"vacuum-pa": 80_000})
    assert times_active(when, [other_reading]) == []


def test_the_state_is_compared_by_name() -> None:
    states: tuple[State, ...] = ("idle", "stopped", "running")
    reports = [reading(at, 1, state) for at, state in enumerate(states)]
    assert times_active("state is stopped", reports) == [(1, True), (2, False)]
    assert times_active("state is not stopped", reports) == [(0, True), (1, False), (2, True)]


def test_an_alert_begins_after_the_condition_has_held_for_its_time() -> None:
    values = (9, 60, 60, 9, 60, 60, 60, 60, 9)
    changes = times_active("water-conductivity-ns > 50", readings(*values), lasts="2min")
    assert changes == [(6 * MINUTE, True), (8 * MINUTE, False)]


def test_an_alert_ends_when_the_second_condition_holds() -> None:
    changes = times_active(
        "water-conductivity-ns > 50", readings(60, 49, 31, 29, 51), until="water-conductivity-ns < 30"
    )
    assert changes == [(0, True), (3 * MINUTE, False), (4 * MINUTE, True)]


def test_a_window_covers_at_least_three_quarters_of_its_length_and_at_most_all_of_it() -> None:
    alerts: list[InstrumentReport] = [Alert(1, 20 * MINUTE, "L0100", "lamp", "warning")]
    for minutes, counted in ((59, True), (75, False)):
        later = reading(minutes * MINUTE, 1)
        assert times_active("count(L0100, 1h) < 1", [*alerts, later]) == (
            [] if counted else [(75 * MINUTE, True)]
        )


def test_occurrences_are_counted_by_code_and_by_component() -> None:
    alerts = [Alert(1, at, "L0100", "lamp", "warning") for at in range(3)]
    other = Alert(1, 3, "B0101", "barcode-reader", "warning")
    for code_or_component in ("L0100", "lamp"):
        assert times_active(f"count({code_or_component}, 1h) >= 3", [other, *alerts]) == [(3, True)]
        assert times_active(f"count({code_or_component}, 1h) >= 4", [*alerts, other]) == []


def test_minimum_maximum_mean_and_change_within_a_window() -> None:
    quarter = 15 * MINUTE
    values = readings(10, 50, 20, 40, 30, 30, step_ms=quarter)
    channel = "water-conductivity-ns"
    assert times_active(f"min({channel}, 1h) > 15", values) == [(4 * quarter, True)]
    assert times_active(f"max({channel}, 1h) < 45", values) == [
        (0, True),
        (quarter, False),
        (5 * quarter, True),
    ]
    assert times_active(f"mean({channel}, 1h) >= 35", values) == [(4 * quarter, True), (5 * quarter, False)]
    assert times_active(f"change({channel}, 1h) >= 30", values) == [(3 * quarter, True), (4 * quarter, False)]


def test_jitter_is_the_mean_difference_of_successive_values_within_a_window() -> None:
    quarter = 15 * MINUTE
    values = readings(10, 10, 14, 8, 8, 8, 8, step_ms=quarter)  # differences 0, 4, 6, 0, 0, 0
    channel = "water-conductivity-ns"
    assert times_active(f"jitter({channel}, 1h) >= 3.3", values) == [
        (3 * quarter, True),
        (4 * quarter, False),
    ]
    assert times_active(f"jitter({channel}, 1h) < 2", values) == [
        (quarter, True),
        (2 * quarter, False),
        (6 * quarter, True),
    ]


def test_a_gap_longer_than_a_window_empties_it() -> None:
    reports = [*readings(90), reading(5 * HOUR, 10)]
    assert times_active("max(water-conductivity-ns, 1h) > 50", reports) == [(0, True), (5 * HOUR, False)]


@pytest.mark.parametrize(
    ("rule", "deviations", "broken"),
    [
        ("1-3s", (3000, 3001, 0, -3001), {1, 3}),
        ("2-2s", (2001, 2001, -2001, -2001, 2001), {1, 3}),
        ("R-4s", (2001, -2001, -2001, 2001), {1, 3}),
        ("4-1s", (1001, 1001, 1001, 1000, 1001, 1001, 1001, 1001, -1001), {7}),
        ("10-x", (1,) * 9 + (0,) + (-1,) * 11, {19, 20}),
    ],
)
def test_control_rules(rule: str, deviations: tuple[int, ...], broken: set[int]) -> None:
    reports = [quality(at, deviation) for at, deviation in enumerate(deviations)]
    active, violations = False, set()
    changes = dict(times_active(f'westgard(glu, "{rule}")', reports))
    for at in range(len(deviations)):
        active = changes.get(at, active)
        violations |= {at} if active else set()
    assert violations == broken


def test_controls_inventory_and_calibration_are_inputs() -> None:
    assert times_active("qc(glu, 2) > 1.5", [quality(0, 1600), quality(1, 1501, level=2)]) == [(1, True)]
    assert times_active("qc(glu) > 1.5", [quality(0, 1501, level=3)]) == [(0, True)]
    assert times_active("tests-left(na) < 10", [Inventory(1, 0, {"k": 3}), Inventory(1, 1, {"na": 9})]) == [
        (1, True)
    ]
    calibration = Calibration(1, 5, "na", 20_000, -300, True)
    assert times_active("slope(na) > 10000", [calibration]) == [(5, True)]
    assert times_active("offset(na) < -200", [calibration]) == [(5, True)]
    assert times_active("slope(k) > 10000", [calibration]) == []


def test_a_reading_is_compared_with_the_base_of_the_day_of_its_report() -> None:
    asked = []

    def bases(day: int, channel: str, percentile: int) -> int:
        asked.append((day, channel, percentile))
        return {0: 50, 1: 70}.get(day, ABSENT)

    when = "water-conductivity-ns > base(water-conductivity-ns, 95)"
    evaluator = LiveEvaluator(LiveFunctions([trigger(when)]), bases)
    reports = [reading(at, 60) for at in (0, HOUR, 24 * HOUR, 23 * HOUR, 48 * HOUR, 49 * HOUR)]
    changes = [(one.at_ms, one.is_active) for report in reports for one in evaluator.evaluate(report)]
    assert changes == [(0, True), (24 * HOUR, False)]
    assert asked == [(day, "water-conductivity-ns", 95) for day in range(3)]
    assert evaluator.terms(evaluator.program.triggers[0])["base(water-conductivity-ns, 95)"] is None


def test_a_new_snapshot_begins_an_alert_with_a_report_of_any_kind() -> None:
    def bases(day: int, _channel: str, _percentile: int) -> int:
        return 60 - 20 * day

    evaluator = LiveEvaluator(LiveFunctions([trigger("water-conductivity-ns > base(lamp-h, 50)")]), bases)
    assert evaluator.evaluate(reading(0, 50)) == []
    assert [one.is_active for one in evaluator.evaluate(quality(24 * HOUR, 0))] == [True]


def test_a_clock_that_is_set_back_does_not_prolong_or_restart_a_duration() -> None:
    reports = [reading(at, 60) for at in (0, HOUR, 0, HOUR + MINUTE)]
    assert times_active("water-conductivity-ns > 50", reports, lasts="61min") == [(HOUR + MINUTE, True)]
