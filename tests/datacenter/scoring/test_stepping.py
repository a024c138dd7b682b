"""A back-test of stored statuses reaches the verdicts of the live evaluation."""

from __future__ import annotations

from random import Random

from datacenter.history.chunk import decode_chunk, encode_chunk
from datacenter.history.statuses import Statuses
from datacenter.scoring.stepping import evaluate_statuses, status_evaluator
from datacenter.triggers.live import LiveEvaluator, LiveFunctions
from tests.support.datacenter.evaluation.triggers import trigger
from wire.messages import STATES, Status

TRIGGERS = [
    trigger("vacuum-pa > 60 and state is running", name="reading"),
    trigger("ewma(vacuum-pa, 8) > 52", until="ewma(vacuum-pa, 8) < 48", lasts="5min", name="mean"),
    trigger("change(lamp-h, 1h) > 20", name="change"),
]
INSTRUMENTS = 19
DAYS = 2


def day_of(random: Random, day: int) -> list[Status]:
    """Return 60, 40 or no statuses of a day; some readings are absent."""
    statuses = []
    for number in range(random.choice([0, 40, 60, 60])):
        readings = {"vacuum-pa": random.randrange(100), "lamp-h": random.randrange(50)}
        kept = {name: value for name, value in readings.items() if random.random() < 0.9}
        at_ms = day * 86_400_000 + number * 300_000 + random.randrange(1000)
        statuses.append(Status(day * 1000 + number + 1, at_ms, random.choice(STATES), 0, kept))
    return statuses


def test_stored_statuses_have_the_verdicts_of_the_live_evaluation() -> None:
    random = Random(5)
    days = [[day_of(random, day) for _ in range(INSTRUMENTS)] for day in range(DAYS)]
    functions = LiveFunctions(TRIGGERS)
    live = [LiveEvaluator(functions) for _ in range(INSTRUMENTS)]
    columns = status_evaluator(TRIGGERS, INSTRUMENTS)
    count = 0
    for day in days:
        expected = {
            (instrument, index, change.trigger.name, change.is_active)
            for instrument, reports in enumerate(day)
            for index, report in enumerate(reports)
            for change in live[instrument].evaluate(report)
        }
        parts = [
            decode_chunk(encode_chunk(Statuses.of([(1, one) for one in reports])))
            if reports
            else Statuses.of([])
            for reports in day
        ]
        changes = evaluate_statuses(columns, parts)
        assert {(one.instrument, one.report, one.trigger.name, one.is_active) for one in changes} == expected
        count += len(expected)
    assert count > 500
