"""Thresholds of triggers, in the unit of the compared reading."""

from __future__ import annotations

import pytest

from datacenter.evaluation.state import save_state
from datacenter.explanation.sides import compared_sides
from datacenter.explanation.thresholds import ReadingThreshold, reading_thresholds
from datacenter.triggers.live import LiveEvaluator, LiveFunctions
from datacenter.triggers.triggerfile import TriggerTable, make_trigger
from wire.messages import Status

READING = "lamp-intensity-pct"


def functions(when: str) -> LiveFunctions:
    table = TriggerTable("chemistry-analyzer", "warning", "lamp", "The lamp will fail soon", when)
    return LiveFunctions([make_trigger("lamp", table)])


def thresholds(known: LiveFunctions, evaluation: bytes = b"") -> dict[str, list[ReadingThreshold]]:
    comparisons = {one.name: compared_sides(one) for one in known.program.triggers}
    return reading_thresholds(known, comparisons, evaluation)


@pytest.mark.parametrize(
    ("when", "sign", "threshold"),
    [
        (f"{READING} < 70", "<", 70),
        (f"70 < {READING}", ">", 70),
        (f"mean({READING}, 2h) >= 70 and state is running", ">=", 70),
        (f"10 - 2 * {READING} > 4", "<", 3),
        (f"not ({READING} < 70)", ">=", 70),
        (f"not (state is running and not {READING} < 70)", "<", 70),
    ],
)
def test_a_comparison_with_a_constant_has_a_threshold(when: str, sign: str, threshold: float) -> None:
    (result,) = thresholds(functions(when))[READING]
    assert (result.sign, result.threshold, result.moves) == (sign, threshold, False)


@pytest.mark.parametrize(
    "when",
    [
        f"jitter({READING}, 2h) > 3",
        f"mean({READING}, 12h) + 0.04 * mean(lamp-h, 12h) < 98.6",
        "count(L0100, 2h) > 3",
        "tests-left(glu) < 30",
        f"mean({READING}, 1h) < mean({READING}, 1d) - 5",
    ],
)
def test_other_comparisons_have_none_before_a_report(when: str) -> None:
    assert thresholds(functions(when)) == {}


def test_a_threshold_that_moves_is_that_of_the_latest_report() -> None:
    known = functions(f"mean({READING}, 1h) < mean({READING}, 1d) - 5")
    evaluator = LiveEvaluator(known)
    for number, reading in enumerate((80, 90), 1):
        evaluator.start_terms(1, number)
        evaluator.evaluate(Status(number, number * 60_000, "running", 0, {READING: reading}))
    (result,) = thresholds(known, save_state(evaluator))[READING]
    assert (result.value, result.threshold, result.moves) == (f"mean({READING}, 1h)", 80, True)
