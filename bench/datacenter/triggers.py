"""The speed of evaluating triggers, live and in back-tests: `python -m bench.datacenter.triggers [--json]`.

Thirty triggers of the chemistry analyzer are evaluated for random status reports with its ten readings: report by
report, and for many instruments at once. Both in processor time of one core, for a healthy instrument without
alerts, and for readings that begin and end alerts all the time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random
from typing import Final

import numpy as np

from bench.datacenter.scale import scaled
from bench.figures import Figure, figure, run
from datacenter.triggers.columns import ColumnEvaluator, InputColumn, ReportColumns
from datacenter.triggers.live import LiveEvaluator, LiveFunctions
from datacenter.triggers.terms.inputs import Input, InstrumentState, Reading
from datacenter.triggers.triggerfile import Trigger
from settings.profile import load_profile
from tests.support.datacenter.evaluation.triggers import MODEL, trigger
from wire.messages import Status

REPORTS: Final = scaled(20_000, 1000)
INSTRUMENTS: Final = 160
STEPS: Final = scaled(1440, 100)
"""Reports of each instrument: those of a day."""
ROUNDS: Final = 5
CHANNELS: Final = list(load_profile(MODEL).channels)
CONDITIONS: Final = (
    "{name} > {limit} and state is running",
    "ewma({name}, 64) > {limit} / 2",
    "cusum-high({name}, 50, 10.5) > {limit}",
)
"""The forms of the conditions for each channel."""


def busy_triggers() -> list[Trigger]:
    """Return thirty triggers; random readings from 0 to 99 begin or end many alerts with each report."""
    return _triggers(range(60, 100, 4))


def quiet_triggers() -> list[Trigger]:
    """Return the same with limits that no reading below 200 exceeds, as those of a fleet's usual reports."""
    return _triggers([400] * len(CHANNELS))


def wear_triggers() -> list[Trigger]:
    """Return thirty triggers of the same forms for simulated readings, by the normal ranges of the profile."""
    values = []
    for channel in load_profile(MODEL).channels.values():
        low, high = channel.normal or [0, 1_000_000]
        width = high - low
        values.append(
            {
                "high": high,
                "early": high - width // 4,
                "mid": low + width // 2,
                "slack": width // 4,
                "sum": 20 * width,
            }
        )
    forms = (
        "{name} > {high} and state is running",
        "ewma({name}, 64) > {early}",
        "cusum-high({name}, {mid}, {slack}) > {sum}",
    )
    return _make_triggers(forms, values)


def _triggers(limits: Sequence[int]) -> list[Trigger]:
    return _make_triggers(CONDITIONS, [{"limit": limit} for limit in limits])


def _make_triggers(forms: Sequence[str], values: Sequence[dict[str, int]]) -> list[Trigger]:
    """Return a trigger of each form for each channel, with the values of the channel."""
    conditions = [
        form.format(name=name, **channel_values)
        for name, channel_values in zip(CHANNELS, values, strict=True)
        for form in forms
    ]
    return [trigger(condition, name=f"t{index}") for index, condition in enumerate(conditions)]


def report(random: Random, number: int, reading_max: int) -> Status:
    """Return a status report with random readings, one minute after the previous one."""
    readings = {channel: random.randrange(reading_max) for channel in CHANNELS}
    return Status(number, number * 60_000, "running", 0, readings)


def live_seconds(triggers: Sequence[Trigger], reading_max: int) -> float:
    """Return the processor seconds to evaluate triggers for one report."""
    random = Random(1)
    reports = [report(random, number, reading_max) for number in range(1, REPORTS + 1)]
    functions = LiveFunctions(triggers)
    measured = []
    for _ in range(ROUNDS):
        evaluator = LiveEvaluator(functions)
        began = time.process_time()
        for status in reports:
            evaluator.evaluate(status)
        measured.append((time.process_time() - began) / REPORTS)
    return min(measured)


def column_seconds(triggers: Sequence[Trigger], reading_max: int) -> float:
    """Return the processor seconds per report to evaluate the same triggers for many instruments at once."""
    random = np.random.default_rng(1)
    every, at_ms = np.ones(STEPS, np.bool_), np.arange(STEPS) * 60_000
    state = InputColumn(np.ones(STEPS, np.int64), every)
    parts = []
    for _ in range(INSTRUMENTS):
        readings = random.integers(0, reading_max, (len(CHANNELS), STEPS))
        inputs: dict[Input, InputColumn] = {
            Reading(channel): InputColumn(values, every)
            for channel, values in zip(CHANNELS, readings, strict=True)
        }
        parts.append(ReportColumns(at_ms, {InstrumentState(): state, **inputs}))
    measured = []
    for _ in range(ROUNDS):
        evaluator = ColumnEvaluator(triggers, INSTRUMENTS)
        began = time.process_time()
        for _transition in evaluator.evaluate(parts):
            pass
        measured.append((time.process_time() - began) / STEPS / INSTRUMENTS)
    return min(measured)


def figures() -> list[Figure]:
    """Return all figures."""
    quiet, busy = (quiet_triggers(), 60), (busy_triggers(), 100)
    return [
        figure("thirty triggers for a report, live", "µs", live_seconds(*quiet) * 1e6, "<= 2"),
        figure("  with an alert that begins or ends at most reports", "µs", live_seconds(*busy) * 1e6),
        figure("thirty triggers for a report, as back-test", "µs", column_seconds(*quiet) * 1e6),
        figure("  with an alert that begins or ends at most reports", "µs", column_seconds(*busy) * 1e6),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
