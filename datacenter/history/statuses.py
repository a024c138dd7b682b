"""Statuses of one instrument as columns, for charts, back-tests and the installed base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wire.messages import STATES, Status

Integers: TypeAlias = npt.NDArray[np.int64]
Booleans: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Readings:
    """A channel: its value in each status, and whether the status has one. Absent values are 0."""

    values: Integers
    present: Booleans


@dataclass(frozen=True)
class Statuses:
    """Statuses in the order of (run, number); all arrays have one element for each.

    `at_ms` are milliseconds since 1970 by the instrument's clock; `state` is an index of STATES. Readings are in the
    units of the profile, by the names of its channels.
    """

    run: Integers
    number: Integers
    at_ms: Integers
    state: Integers
    samples: Integers
    readings: dict[str, Readings]

    def __len__(self) -> int:
        return len(self.number)

    @classmethod
    def of(cls, reports: Sequence[tuple[int, Status]]) -> Statuses:
        """Return the columns of (run, status) pairs, which may be given in any order."""
        ordered = sorted(reports, key=lambda pair: (pair[0], pair[1].number))
        statuses = [status for _, status in ordered]
        names = dict.fromkeys(name for status in statuses for name in status.readings)
        return cls(
            _integers([run for run, _ in ordered]),
            _integers([status.number for status in statuses]),
            _integers([status.at_ms for status in statuses]),
            _integers([STATES.index(status.state) for status in statuses]),
            _integers([status.samples for status in statuses]),
            {
                name: Readings(
                    _integers([status.readings.get(name, 0) for status in statuses]),
                    np.array([name in status.readings for status in statuses], np.bool_),
                )
                for name in names
            },
        )

    def reports(self) -> Iterator[tuple[int, Status]]:
        """Yield the statuses with their runs."""
        columns = [
            (name, column.values.tolist(), column.present.tolist()) for name, column in self.readings.items()
        ]
        fixed = (self.run, self.number, self.at_ms, self.state, self.samples)
        for index, (run, number, at_ms, state, samples) in enumerate(
            zip(*(column.tolist() for column in fixed), strict=True)
        ):
            readings = {name: values[index] for name, values, present in columns if present[index]}
            yield run, Status(number, at_ms, STATES[state], samples, readings)

    def chosen(self, indexes: Integers | Booleans) -> Statuses:
        """Return the statuses at these indexes, or where the mask is true."""
        return Statuses(
            self.run[indexes],
            self.number[indexes],
            self.at_ms[indexes],
            self.state[indexes],
            self.samples[indexes],
            {
                name: Readings(one.values[indexes], one.present[indexes])
                for name, one in self.readings.items()
            },
        )


def joined(parts: Sequence[Statuses]) -> Statuses:
    """Return the statuses of all parts, each once, in the order of (run, number)."""
    names = dict.fromkeys(name for part in parts for name in part.readings)
    run, number, at_ms, state, samples = (
        np.concatenate([_integers([]), *(getattr(part, column) for part in parts)])
        for column in ("run", "number", "at_ms", "state", "samples")
    )
    readings = {name: _joined_readings(parts, name) for name in names}
    combined = Statuses(run, number, at_ms, state, samples, readings)
    order = np.lexsort((number, run))
    run, number = run[order], number[order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (run[1:] != run[:-1]) | (number[1:] != number[:-1])
    return combined.chosen(order[is_first])


def _joined_readings(parts: Sequence[Statuses], name: str) -> Readings:
    parts_readings = [part.readings.get(name) or _absent(len(part)) for part in parts]
    return Readings(
        np.concatenate([readings.values for readings in parts_readings]),
        np.concatenate([readings.present for readings in parts_readings]),
    )


def _absent(count: int) -> Readings:
    return Readings(np.zeros(count, np.int64), np.zeros(count, np.bool_))


def _integers(values: Sequence[int]) -> Integers:
    return np.array(values, np.int64)
