"""Evaluates triggers over the stored statuses of many instruments at once, for back-tests of a whole fleet.

Step by step, the next status of each instrument is evaluated with numpy. Its verdicts are those of the live
evaluation of the same statuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from datacenter.history.statuses import Readings, Statuses
from datacenter.triggers.columns import Booleans, Column, ColumnEvaluator, Integers
from datacenter.triggers.terms.inputs import Input, InstrumentState, Reading
from datacenter.triggers.triggerfile import Trigger

_Matrix: TypeAlias = npt.NDArray[np.int64]
_NONE: Final[Integers] = np.zeros(0, np.int64)
_BLOCK: Final = 16
"""So many columns are transposed at once, because a column alone would use a part of each line of the cache."""


class SteppedTransition(NamedTuple):
    """The beginning or the end of an alert: the instrument's place, and that of the status in its statuses."""

    instrument: int
    status: int
    trigger: Trigger
    is_active: bool


def evaluate_statuses(evaluator: ColumnEvaluator, parts: Sequence[Statuses]) -> Iterator[SteppedTransition]:
    """Evaluate the further statuses of each instrument, in the order of (run, number), such as those of a day.

    `parts` has one element for each instrument of the evaluator; they may differ in length.
    """
    lengths = np.array([len(part) for part in parts])
    steps = int(lengths.max(initial=0))
    at_ms = _stacked([part.at_ms for part in parts], steps)
    exists = np.arange(steps)[:, None] < lengths
    columns: dict[Input, tuple[_Matrix, npt.NDArray[np.bool_]]] = {}
    for wanted in evaluator.program.inputs():
        if isinstance(wanted, Reading):
            columns[wanted] = _readings(parts, wanted.word, steps, exists)
        elif isinstance(wanted, InstrumentState):
            columns[wanted] = _stacked([part.state for part in parts], steps), exists
    for step in range(steps):
        inputs = {wanted: Column(present[step], x[step]) for wanted, (x, present) in columns.items()}
        for trigger, begun, ended in evaluator.evaluate(exists[step], at_ms[step], inputs):
            for which, is_active in ((begun, True), (ended, False)):
                for instrument in np.flatnonzero(which).tolist():
                    yield SteppedTransition(instrument, step, trigger, is_active)


def _readings(
    parts: Sequence[Statuses], word: str, steps: int, exists: npt.NDArray[np.bool_]
) -> tuple[_Matrix, npt.NDArray[np.bool_]]:
    """Return the readings of a channel, and where there is one."""
    found = [part.readings.get(word) or Readings(_NONE, _NONE.astype(np.bool_)) for part in parts]
    values = _stacked([one.values for one in found], steps)
    if all(
        len(one.values) == len(part) and one.present.all() for one, part in zip(found, parts, strict=True)
    ):
        return values, exists
    return values, _stacked([one.present for one in found], steps).astype(np.bool_)


def _stacked(columns: Sequence[Integers] | Sequence[Booleans], steps: int) -> _Matrix:
    """Return a matrix with a row for each step and a column for each of `columns`; what is missing is 0."""
    matrix = np.empty((steps, len(columns)), np.int64)
    for begin in range(0, len(columns), _BLOCK):
        some = columns[begin : begin + _BLOCK]
        block = np.zeros((len(some), steps), np.int64)
        for place, column in enumerate(some):
            block[place, : len(column)] = column
        matrix[:, begin : begin + _BLOCK] = block.T
    return matrix
