"""Evaluates triggers report by report: with the instructions of `machine`, or in Python if they cannot run."""

from __future__ import annotations

from array import array
from collections.abc import Callable, MutableSequence, Sequence
from operator import itemgetter
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias, cast

from datacenter.triggers.functions import text_of
from datacenter.triggers.machine import Machines, TriggerMachine, compiled, make_machines
from datacenter.triggers.program import Program
from datacenter.triggers.scalar import Evaluate, compile_kind, compile_value
from datacenter.triggers.terms.base import DAY_MS, Bases, no_base
from datacenter.triggers.terms.inputs import NAMES, Reading
from datacenter.triggers.terms.term import ABSENT, Term
from datacenter.triggers.triggerfile import Trigger
from settings.profile import Profile, load_profile
from wire.messages import INT_MAX, Alert, Calibration, InstrumentReport, Inventory, Quality, Status

_KINDS: Final = (Status, Inventory, Quality, Calibration, Alert)
Start: TypeAlias = tuple[int, int]
"""Run and number of a report."""
_Load: TypeAlias = Callable[[Any, Any], None]
"""Copies the inputs of a report to the rows of an instrument."""


class AlertTransition(NamedTuple):
    """The beginning or the end of a trigger's alert."""

    trigger: Trigger
    at_ms: int
    is_active: bool


class LiveEvaluator:
    """The triggers of one instrument, evaluated at each of its reports in the order of (run, number).

    `bases` are the percentiles of the installed base of its model.
    """

    def __init__(self, functions: LiveFunctions, bases: Bases = no_base) -> None:
        self._functions = functions
        self._bases = bases
        self.program = functions.program
        self.now_ms = 0
        """The latest time of any report, in ms since 1970."""
        self.starts: list[Start | None] = [None] * len(self.program.terms)
        """Run and number of the first report of each term of the program, if `start_terms` has been called."""
        self.state: MutableSequence[int] = list(self.program.initial)
        """The variables of the program, at their indexes."""
        if functions.machines is not None:
            module = compiled()
            self._registers = array("q", functions.machines.registers)
            self._address = module.ffi.from_buffer("int64_t[]", self._registers)
            self._run = module.lib.run_one
            rows = memoryview(self._registers)[: len(self.program.initial)]
            self.state = cast("MutableSequence[int]", rows)

    def start_terms(self, run: int, number: int) -> None:
        """Record that the next report is that of (run, number); terms without a start begin with it."""
        if None in self.starts:
            self.starts = [start or (run, number) for start in self.starts]

    def holds_since_ms(self, trigger: Trigger) -> int:
        """Return when a trigger's condition began to hold, until its alert ends; `now_ms` if it does not hold."""
        since = self.state[self.program.slots[self.program.triggers.index(trigger)].since]
        return since - 1 if since else self.now_ms

    def evaluate(self, report: InstrumentReport, latest_ms: int = INT_MAX) -> list[AlertTransition]:
        """Return the alerts that begin or end with this report.

        A time later than `latest_ms` is wrong, and is ignored; `latest_ms` is used until the first correct time.
        """
        at_ms = report.at_ms
        if at_ms <= latest_ms:
            if at_ms > self.now_ms:
                self.now_ms = at_ms
        elif not self.now_ms:
            self.now_ms = latest_ms
        if (kind := self._functions.native.get(type(report))) is None:
            return self._evaluate_as_python(report)
        load, machine = kind
        load(self._registers, report)
        if self._functions.has_base:
            self._load_bases()
        count = self._run(machine, self._address, self.now_ms)
        return self._transitions(count) if count else []

    def _load_bases(self) -> None:
        """Copy the percentiles for a new day to their rows."""
        machines, day = self._functions.machines, self.now_ms // DAY_MS
        assert machines is not None
        for row, term in enumerate(machines.bases, machines.first_base):
            if self.state[self.program.indexes_of(term)[0]] != day:
                self._registers[row] = self._bases(day, term.input.word, term.percentile)

    def _transitions(self, count: int) -> list[AlertTransition]:
        """Return the transitions that `run_one` has found."""
        machines, triggers = self._functions.machines, self._functions.by_row
        assert machines is not None
        codes = self._registers[machines.found : machines.found + count]
        return [AlertTransition(triggers[code >> 1], self.now_ms, bool(code & 1)) for code in codes]

    def _evaluate_as_python(self, report: InstrumentReport) -> list[AlertTransition]:
        if (evaluate := self._functions.python.get(type(report))) is None:
            return []
        changes: list[tuple[int, bool]] = []
        evaluate(self.state, self.now_ms, report, changes, self._bases)
        triggers = self.program.triggers
        return [AlertTransition(triggers[index], self.now_ms, is_active) for index, is_active in changes]

    def terms(self, trigger: Trigger) -> dict[str, float | None]:
        """Return the values of a trigger's terms, None while unknown, by their names in conditions."""
        return {text_of(term): self.value(term) for term in self.program.terms_of(trigger)}

    def value(self, term: Term) -> float | None:
        """Return the value of a term of the program; None while it is unknown."""
        value = self._functions.values[term](self.state)
        return None if value == ABSENT else value / term.scale


class LiveFunctions:
    """The compiled functions of a program, which all instruments of the model share.

    They are instructions of the extension module if it is built; `as_python` always selects Python.
    """

    def __init__(self, triggers: Sequence[Trigger], *, as_python: bool = False) -> None:
        self.program = Program(triggers)
        profile = load_profile(triggers[0].table.model)
        self.machines: Machines | None = None
        self.native: dict[type, tuple[_Load, Any]] = {}
        self.python: dict[type, Evaluate] = {}
        self.has_base = False
        if as_python or compiled() is None:
            self.python = {kind: compile_kind(self.program, kind, profile) for kind in _KINDS}
        else:
            inputs = sorted(self.program.inputs(), key=lambda source: isinstance(source, Reading))
            kinds = [[source for source in inputs if source.report is kind] for kind in _KINDS]
            self.machines = make_machines(self.program, kinds)
            self.has_base = bool(self.machines.bases)
            for kind, machine in zip(_KINDS, self.machines.of, strict=True):
                self.native[kind] = _loading(machine, profile), machine.address
        self.by_row = dict(zip((slots.since for slots in self.program.slots), triggers, strict=True))
        self.values: dict[Term, Callable[[Any], int]] = {
            term: compile_value(self.program, term) for term in self.program.terms
        }


def _loading(machine: TriggerMachine, profile: Profile) -> _Load:
    """Return the function that copies the inputs of a report; ABSENT represents a missing input.

    Readings are the last inputs. A status almost always has all of them; then they are read together.
    """
    if not machine.inputs:
        return lambda _registers, _report: None
    words = [source.word for source in machine.inputs if isinstance(source, Reading)]
    texts = [source.text(profile) for source in machine.inputs]
    pack_into = Struct(f"{len(texts)}q").pack_into
    names: dict[str, Any] = {"ABSENT": ABSENT, "pack_into": pack_into, **NAMES}
    one_by_one = f"pack_into(registers, {8 * machine.first_input}, {', '.join(texts)})"
    lines = ["def load(registers, r):", f"    {one_by_one}"]
    if len(words) > 1:
        names["all_of"] = itemgetter(*words)
        at_once = ", ".join([*texts[: len(texts) - len(words)], "*all_of(r.readings)"])
        lines[1:] = [
            "    try:",
            f"        pack_into(registers, {8 * machine.first_input}, {at_once})",
            "    except KeyError:",
            f"        {one_by_one}",
        ]
    exec("\n".join(lines), names)  # noqa: S102
    load: _Load = names["load"]
    return load
