"""Alerts are matched with the true degradations, episode by episode; random alerts score no better than chance."""

from __future__ import annotations

from random import Random

import pytest

from datacenter.scoring.matching import AlertStart, Course, TrueDegradation
from datacenter.scoring.outcome import InstrumentOutcome, Scores, scores
from datacenter.scoring.tally import HOUR_MS, YEAR_MS
from datacenter.triggers.triggerfile import Trigger, TriggerTable, make_trigger
from tests.support.datacenter.evaluation.triggers import MODEL

DAY_MS = 24 * HOUR_MS


def trigger(name: str, component: str, *parts: str) -> Trigger:
    table = TriggerTable(MODEL, "warning", component, "Will fail", "lamp-h > 0", parts=list(parts))
    return make_trigger(name, table)


LAMP = trigger("lamp", "lamp", "Halogen lamp")
BATH = trigger("bath", "bath", "Thermostat", "Heater")
WESTGARD = trigger("control", "quality-control")


def degradation(
    began_day: float,
    failed_day: float | None,
    *,
    course: Course = "failing",
    ended_day: float | None = None,
    component: str = "lamp",
    part: str = "Halogen lamp",
) -> TrueDegradation:
    times = (None if day is None else round(day * DAY_MS) for day in (failed_day, ended_day))
    return TrueDegradation(component, part, course, round(began_day * DAY_MS), *times)


def scored(
    alarms: dict[str, list[float]], *degradations: TrueDegradation, triggers: tuple[Trigger, ...] = (LAMP,)
) -> Scores:
    """Return the scores of alerts that begin on these days of a year, by trigger."""
    raised = [AlertStart(name, round(day * DAY_MS)) for name, days in alarms.items() for day in days]
    return scores(triggers, [InstrumentOutcome(MODEL, YEAR_MS, 0, 0.0, raised, list(degradations))])


FAILURE = degradation(100, 110, ended_day=110.5)


def test_an_alert_before_the_failure_is_right_and_its_lead_is_measured_from_it() -> None:
    total = scored({"lamp": [103, 104, 109]}, FAILURE).whole
    assert (total.recall, total.precision, total.false_per_year) == (1.0, 1.0, 0.0)
    assert (total.lead_h, total.lead_share) == (7 * 24, 0.7)


@pytest.mark.parametrize(
    ("day", "false"),
    [(99.9, 1), (110.1, 0), (110.6, 1)],
    ids=["before the degradation", "between failure and repair", "after the repair"],
)
def test_an_alert_at_another_time_predicts_nothing(day: float, false: int) -> None:
    total = scored({"lamp": [day]}, FAILURE).whole
    assert (total.recall, total.lead_share, total.false_per_year) == (0.0, 0.0, false)


def test_an_alert_of_another_component_predicts_nothing() -> None:
    results = scored({"bath": [103]}, FAILURE, triggers=(LAMP, BATH))
    assert (results.whole.recall, results.whole.precision) == (0.0, 0.0)
    assert (results.triggers["lamp"].recall, results.triggers["bath"].recall) == (0.0, None)


def test_a_stable_degradation_is_one_false_alarm_however_often_the_alert_begins() -> None:
    total = scored({"lamp": [20, 21, 22]}, degradation(10, None, course="stable", ended_day=50)).whole
    assert (total.failures, total.false_per_year, total.false_stable_per_year) == (0, 1, 1)


def test_alerts_without_a_degradation_are_false_each_time() -> None:
    assert scored({"lamp": [20, 21, 22]}).whole.false_per_year == 3


def test_a_sudden_failure_and_one_that_a_replacement_prevented_are_not_demanded() -> None:
    sudden = degradation(50, 50, course="sudden", ended_day=50.2)
    prevented = degradation(60, None, ended_day=65)
    total = scored({"lamp": [62]}, sudden, prevented).whole
    assert (total.failures, total.recall, total.precision) == (0, None, 1.0)


def test_two_triggers_of_one_episode_count_once_for_the_set() -> None:
    second = trigger("lamp-2", "lamp", "Halogen lamp")
    stable = degradation(10, None, course="stable", ended_day=50)
    results = scored({"lamp": [20, 105], "lamp-2": [21, 103]}, stable, FAILURE, triggers=(LAMP, second))
    assert (results.whole.false_per_year, results.whole.failures, results.whole.lead_share) == (1, 1, 0.7)
    assert results.triggers["lamp"].lead_share == 0.5


def test_a_missed_failure_counts_in_recall_and_as_no_lead() -> None:
    later = [degradation(day, day + 10, ended_day=day + 10.2) for day in (200, 300)]
    total = scored({"lamp": [102]}, FAILURE, *later).whole
    assert (total.failures, total.recall, total.lead_share) == (3, 0.333, 0.0)


def test_parts_that_are_named_as_a_precaution_are_wrong_parts() -> None:
    bath = degradation(100, 110, component="bath", part="Thermostat")
    assert scored({"bath": [101]}, bath, triggers=(BATH,)).whole.parts_right == 0.5


def test_an_alert_belongs_to_the_degradation_of_a_part_that_it_names() -> None:
    sensor = degradation(99, 130, component="bath", part="Temperature sensor")
    thermostat = degradation(90, 130, component="bath", part="Thermostat")
    results = scored({"bath": [101]}, sensor, thermostat, triggers=(BATH,))
    assert (results.whole.failures, results.whole.recall) == (1, 1.0)


def test_triggers_without_parts_give_notices_and_no_false_alarms() -> None:
    total = scored({"control": [1, 2, 3]}, FAILURE, triggers=(LAMP, WESTGARD)).whole
    assert (total.notices_per_year, total.false_per_year, total.recall) == (3, 0, 0)


def test_random_alerts_reach_the_recall_of_chance_and_a_low_precision() -> None:
    random = Random(1)
    failures = [degradation(day, day + 10, ended_day=day + 10.5) for day in (40, 140, 240, 340)]
    results = [
        InstrumentOutcome(
            MODEL,
            YEAR_MS,
            0,
            0.0,
            [AlertStart("lamp", random.randrange(YEAR_MS)) for _ in range(20)],
            failures,
        )
        for _ in range(200)
    ]
    total = scores([LAMP], results).whole
    assert total.recall is not None
    assert total.recall_by_chance is not None
    assert total.precision is not None
    assert abs(total.recall - total.recall_by_chance) < 0.06
    assert total.precision < 0.15
