"""Evaluates triggers over the stored statuses of many instruments at once, for back-tests of a whole fleet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from datacenter.history.statuses import Statuses
from datacenter.triggers.columns import ColumnEvaluator, ColumnTransition, InputColumn, ReportColumns
from datacenter.triggers.program import Program
from datacenter.triggers.terms.base import Bases, no_base
from datacenter.triggers.terms.inputs import Input, InstrumentState, Reading
from datacenter.triggers.triggerfile import Trigger
from wire.messages import Status


def status_evaluator(triggers: Sequence[Trigger], count: int, bases: Bases = no_base) -> ColumnEvaluator:
    """Return an evaluator of the statuses of `count` instruments of one model. Raises: NotBuiltError."""
    inputs = [item for item in Program(triggers).inputs() if item.report is Status]
    return ColumnEvaluator(triggers, count, bases, inputs)


def evaluate_statuses(evaluator: ColumnEvaluator, parts: Iterable[Statuses]) -> Iterator[ColumnTransition]:
    """Evaluate the further statuses of each instrument, in the order of (run, number), such as those of a day.

    `parts` has one element for each instrument of the evaluator; they may differ in length, and are taken
    a few at a time.
    """
    return evaluator.evaluate(_columns(part, evaluator.inputs) for part in parts)


def _columns(statuses: Statuses, inputs: Sequence[Input]) -> ReportColumns:
    """Return the columns of the inputs that statuses have."""
    columns: dict[Input, InputColumn] = {}
    for item in inputs:
        if isinstance(item, Reading) and (readings := statuses.readings.get(item.word)) is not None:
            columns[item] = InputColumn(readings.values, readings.present)
        elif isinstance(item, InstrumentState):
            columns[item] = InputColumn(statuses.state, np.ones(len(statuses), np.bool_))
    return ReportColumns(statuses.at_ms, columns)
