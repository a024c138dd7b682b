"""Random reports, and the verdicts of the live and the columnar evaluator about them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeAlias

import numpy as np

from datacenter.triggers.columns import ColumnEvaluator, InputColumn, ReportColumns
from datacenter.triggers.live import LiveEvaluator, LiveFunctions
from datacenter.triggers.terms.inputs import (
    CalibrationOffset,
    CalibrationSlope,
    ControlDeviation,
    Input,
    InstrumentState,
    Occurrence,
    Reading,
    RemainingTests,
)
from datacenter.triggers.terms.term import ABSENT
from datacenter.triggers.triggerfile import Trigger
from tests.support.datacenter.evaluation.triggers import trigger
from wire.messages import INT_MAX, STATES, Alert, Calibration, InstrumentReport, Inventory, Quality, Status

INSTRUMENTS = 25
CONDITIONS = [
    "water-conductivity-ns > 50",
    "not (water-conductivity-ns > 50 or lamp-h < 10) and state is not stopped",
    "ewma(water-conductivity-ns, 7) * 3 - ewma(lamp-h, 3) / 2 > 80",
    "ewma(water-conductivity-ns, 4096) > 55.5 or state is idle",
    "cusum-high(water-conductivity-ns, 55, 2.5) > 60",
    "cusum-low(water-conductivity-ns, 45, 0.3) >= 40",
    "count(L0100, 1h) >= 2 or count(barcode-reader, 6h) > 5",
    "min(water-conductivity-ns, 2h) > 20 and max(water-conductivity-ns, 2h) < 90",
    "mean(water-conductivity-ns, 40min) > 52.25",
    "jitter(water-conductivity-ns, 50min) > 1.2 * jitter(water-conductivity-ns, 9h)",
    "jitter(qc(glu), 6h) > 1.5",
    "change(water-conductivity-ns, 1h) > 30",
    "change(ambient-temp-mc, 1d) < -1000",
    "qc(glu) > 2 or qc(glu, 2) < -1.5",
    "ewma(qc(glu), 5) > 0.5",
    *(f'westgard(glu, "{rule}")' for rule in ("1-3s", "2-2s", "R-4s", "4-1s", "10-x")),
    "tests-left(na) < 20",
    "slope(na) - offset(na) > 500",
    "max(tests-left(na), 3h) - min(tests-left(na), 3h) > 50",
    "water-conductivity-ns > base(water-conductivity-ns, 95)",
    "base(lamp-h, 50) > 40 or ewma(water-conductivity-ns, 7) < base(water-conductivity-ns, 5) - 2.5",
]


def bases(day: int, reading: str, percentile: int) -> int:
    """Return a percentile that differs from day to day, ABSENT on each fourth day."""
    return ABSENT if day % 4 == 3 else (day * 31 + len(reading)) % 60 + percentile // 3


def report(random: Random, at_ms: int) -> InstrumentReport:
    """Return a random report; some readings are absent, and some are the limits of the wire format's integers."""
    match random.randrange(8):
        case 0:
            return Quality(
                1, at_ms, random.choice(["glu", "na"]), random.randint(1, 3), round(random.gauss(400, 1500))
            )
        case 1:
            code, component = random.choice([("L0100", "lamp"), ("B0101", "barcode-reader")])
            return Alert(1, at_ms, code, component, "warning")
        case 2:
            return Inventory(1, at_ms, {"na": random.randint(0, 99)} if random.random() < 0.8 else {})
        case 3:
            return Calibration(1, at_ms, "na", random.randint(-999, 999), random.randint(-999, 999), True)
    value = random.randint(0, 100) if random.random() < 0.98 else random.choice([INT_MAX, -INT_MAX])
    readings = {
        "water-conductivity-ns": value,
        "lamp-h": at_ms // 3_600_000,
        "ambient-temp-mc": random.randint(0, 30_000),
    }
    kept = {channel: reading for channel, reading in readings.items() if random.random() < 0.9}
    return Status(1, at_ms, random.choice(STATES), 0, kept)


def stream(random: Random, length: int) -> list[InstrumentReport]:
    """Return random reports at irregular times, with outages, and with a clock that is sometimes set back."""
    reports, at_ms = [], random.randrange(10**12)
    for _ in range(length):
        steps = [random.randrange(120_000), random.randrange(86_400_000), -random.randrange(600_000)]
        at_ms = max(0, at_ms + random.choices(steps, (95, 2, 3))[0])
        reports.append(report(random, at_ms))
    return reports


def value_in(one: InstrumentReport, wanted: Input) -> int | None:
    """Return the value of an input in a report, None if the report has none."""
    match one, wanted:
        case Status(), Reading():
            return one.readings.get(wanted.word)
        case Status(), InstrumentState():
            return STATES.index(one.state)
        case Inventory(), RemainingTests():
            return one.tests_left.get(wanted.word)
        case Quality(), ControlDeviation():
            matches = one.assay == wanted.word and wanted.level in (0, one.level)
            return one.deviation_msd if matches else None
        case Calibration(), CalibrationOffset():
            return one.offset_ppm if one.assay == wanted.word else None
        case Calibration(), CalibrationSlope():
            return one.slope_ppm if one.assay == wanted.word else None
        case Alert(), Occurrence():
            return 1 if wanted.word in (one.code, one.component) else None
    return None


Verdicts: TypeAlias = set[tuple[int, int, str, bool]]
"""(instrument, report, trigger, whether an alert begins) of all transitions."""


def live(
    triggers: Sequence[Trigger], streams: Sequence[Sequence[InstrumentReport]], *, as_python: bool = False
) -> Verdicts:
    """Return the verdicts of the live evaluation, report by report."""
    functions = LiveFunctions(triggers, as_python=as_python)
    verdicts = set()
    for instrument, reports in enumerate(streams):
        evaluator = LiveEvaluator(functions, bases)
        for number, one in enumerate(reports):
            verdicts |= {(instrument, number, t.trigger.name, t.is_active) for t in evaluator.evaluate(one)}
    return verdicts


def by_columns(
    triggers: Sequence[Trigger], streams: Sequence[Sequence[InstrumentReport]], together: int = 1000
) -> Verdicts:
    """Return the verdicts of the columnar evaluation of all instruments, `together` reports of each in one call."""
    evaluator = ColumnEvaluator(triggers, len(streams), bases)
    verdicts = set()
    for begin in range(0, max(map(len, streams)), together):
        parts = [_columns(reports[begin : begin + together], evaluator.inputs) for reports in streams]
        verdicts |= {
            (one.instrument, begin + one.report, one.trigger.name, one.is_active)
            for one in evaluator.evaluate(parts)
        }
    return verdicts


def _columns(reports: Sequence[InstrumentReport], inputs: Sequence[Input]) -> ReportColumns:
    columns = {}
    for wanted in inputs:
        values = [value_in(one, wanted) for one in reports]
        columns[wanted] = InputColumn(
            np.array([value or 0 for value in values], np.int64),
            np.array([value is not None for value in values], np.bool_),
        )
    return ReportColumns(np.array([one.at_ms for one in reports], np.int64), columns)


def random_triggers(random: Random) -> list[Trigger]:
    """Return a trigger for each of CONDITIONS, and one with an `until`."""
    triggers = [
        trigger(condition, lasts=random.choice(["", "3min", "1h"]), name=condition)
        for condition in CONDITIONS
    ]
    return [*triggers, trigger(CONDITIONS[0], until="water-conductivity-ns < 20", name="hysteresis")]
