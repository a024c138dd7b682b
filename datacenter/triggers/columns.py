"""Evaluates triggers for many instruments at once, from columns of reports, with the instructions of `machine`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from datacenter.triggers.machine import compiled, make_machines
from datacenter.triggers.program import Program
from datacenter.triggers.terms.base import DAY_MS, Base, Bases, no_base
from datacenter.triggers.terms.inputs import Input
from datacenter.triggers.triggerfile import Trigger

Integers: TypeAlias = npt.NDArray[np.int64]
Booleans: TypeAlias = npt.NDArray[np.bool_]


class NotBuiltError(RuntimeError):
    """The extension module that evaluates columns was not built."""


class InputColumn(NamedTuple):
    """An input's value in each report, and whether the report has one."""

    values: Integers
    present: Booleans


class ReportColumns(NamedTuple):
    """Reports of an instrument in the order of (run, number): their times, and columns of the same length."""

    at_ms: Integers
    inputs: Mapping[Input, InputColumn]


class ColumnTransition(NamedTuple):
    """The beginning or the end of an alert: the indexes of the instrument and of the report among its reports."""

    instrument: int
    report: int
    trigger: Trigger
    is_active: bool


class ColumnEvaluator:
    """The triggers of `count` instruments of one model.

    `inputs` are the inputs that the reports can have, by default all inputs of the triggers; `bases` are the
    percentiles of the installed base of the model. Raises: NotBuiltError.
    """

    def __init__(
        self,
        triggers: Sequence[Trigger],
        count: int,
        bases: Bases = no_base,
        inputs: Sequence[Input] | None = None,
    ) -> None:
        module = compiled()
        if module is None:
            raise NotBuiltError(
                "the extension module of datacenter.triggers was not built; install a C compiler and Python's "
                "headers (gcc, python3-devel), and reinstall this package"
            )
        self._lib, self._ffi = module.lib, module.ffi
        self._bases = bases
        self.program = Program(triggers)
        self.inputs = tuple(self.program.inputs() if inputs is None else inputs)
        self._machines = make_machines(self.program, [self.inputs], for_many=True)
        self._by_row = dict(zip((slots.since for slots in self.program.slots), triggers, strict=True))
        self._count = count
        lanes = self._lib.LANES
        rows = np.repeat(np.array(self._machines.registers, np.int64), lanes)
        self._registers = [rows.copy() for _ in range(0, count, lanes)]
        self._now = np.zeros(count, np.int64)
        self._room_of_step = lanes * max(len(triggers), 1)
        self._room = self._room_of_step * 64
        self._transitions = self._ffi.new("transition[]", self._room)

    def evaluate(self, parts: Iterable[ReportColumns]) -> Iterator[ColumnTransition]:
        """Evaluate the further reports of each instrument, such as those of a day; the parts may differ in length.

        Only a few parts are taken at a time; an iterator can decode them as needed. Transitions are in the order of
        the reports for each instrument only. Raises: ValueError if the number of parts is wrong.
        """
        lanes, given = self._lib.LANES, iter(parts)
        for first, registers in zip(range(0, self._count, lanes), self._registers, strict=True):
            block = list(islice(given, min(lanes, self._count - first)))
            if first + len(block) < min(first + lanes, self._count):
                raise ValueError(
                    f"columns of {first + len(block)} instruments; give those of all {self._count}"
                )
            yield from self._evaluate_block(first, registers, block)

    def _evaluate_block(
        self, first: int, registers: Integers, parts: Sequence[ReportColumns]
    ) -> Iterator[ColumnTransition]:
        """Evaluate the reports of up to LANES instruments, from the instrument `first` on."""
        lanes, ffi = self._lib.LANES, self._ffi
        lengths = [len(part.at_ms) for part in parts]
        at_ms = self._pointers("int64_t", [part.at_ms for part in parts])
        wanted = [[part.inputs.get(item) for part in parts] for item in self.inputs]
        values = self._pointers(
            "int64_t", self._padded([[column and column.values for column in row] for row in wanted])
        )
        present = self._pointers(
            "uint8_t", self._padded([[column and column.present for column in row] for row in wanted])
        )
        bases = self._pointers("int64_t", self._padded(self._base_columns(first, parts)))
        given = ffi.new("int32_t[]", lengths + [0] * (lanes - len(parts)))
        count, step, steps = ffi.new("int *"), 0, max(lengths)
        address = ffi.from_buffer("int64_t[]", registers)
        while step < steps:
            step = self._lib.run_many(
                self._machines.of[0].address,
                address,
                step,
                steps,
                given,
                at_ms.address,
                values.address,
                present.address,
                bases.address,
                self._transitions,
                self._room,
                self._room_of_step,
                count,
            )
            for index in range(count[0]):
                found = self._transitions[index]
                yield ColumnTransition(
                    first + found.lane, found.step, self._by_row[found.since], bool(found.is_active)
                )

    def _padded(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the rows one after the other, each with LANES elements."""
        return [item for row in rows for item in [*row, *[None] * (self._lib.LANES - len(row))]]

    def _pointers(self, kind: str, arrays: Sequence[Any]) -> _Pointers:
        kept = [
            self._ffi.NULL
            if column is None
            else self._ffi.from_buffer(f"{kind}[]", np.ascontiguousarray(column).view(np.dtype(kind[:-2])))
            for column in arrays
        ]
        return _Pointers(self._ffi.new(f"{kind} *[]", kept), kept)

    def _base_columns(self, first: int, parts: Sequence[ReportColumns]) -> list[list[Integers]]:
        """Return for each percentile its value at each report of each instrument, for the day of the report."""
        if not self._machines.bases:
            return []
        days = []
        for index, part in enumerate(parts, first):
            now = np.maximum.accumulate(np.maximum(part.at_ms, self._now[index]))
            self._now[index] = now[-1] if len(now) else self._now[index]
            days.append(now // DAY_MS)
        return [[self._percentiles(term, of_day) for of_day in days] for term in self._machines.bases]

    def _percentiles(self, term: Base, days: Integers) -> Integers:
        unique, indexes = np.unique(days, return_inverse=True)
        values = [self._bases(day, term.input.word, term.percentile) for day in unique.tolist()]
        return np.array(values, np.int64)[indexes]


class _Pointers(NamedTuple):
    """An array of pointers, and the memory that they refer to."""

    address: Any
    kept: Sequence[Any]
