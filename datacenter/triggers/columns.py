"""Evaluates triggers for many instruments at once, with numpy: one call for the next report of each instrument."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from datacenter.triggers.program import Program, with_shift
from datacenter.triggers.terms.base import Bases, no_base
from datacenter.triggers.terms.inputs import X_MAX, Input
from datacenter.triggers.triggerfile import Trigger

Integers: TypeAlias = npt.NDArray[np.int64]
Booleans: TypeAlias = npt.NDArray[np.bool_]


class Column(NamedTuple):
    """An input's value in the report of each instrument, where the report has one."""

    present: Booleans
    x: Integers


class Changes(NamedTuple):
    """Of which instruments an alert of the trigger begins, and of which one ends."""

    trigger: Trigger
    begun: Booleans
    ended: Booleans


class ColumnEvaluator:
    """The triggers of `count` instruments of one model, in equal places of all arrays.

    `bases` are the percentiles of the installed base of the model.
    """

    def __init__(self, triggers: Sequence[Trigger], count: int, bases: Bases = no_base) -> None:
        self._bases = bases
        self.program = Program(triggers)
        self.state = [np.full(count, value, np.int64) for value in self.program.initial]
        self._now = np.zeros(count, np.int64)
        self._holds = [False] * len(triggers)
        """Whether the condition of a trigger holds, or its alert is active, for any instrument."""
        self._steps = [
            (
                step.term.input,
                None if step.guard is None else _compiled(step.guard),
                [(place, _compiled(value)) for place, value in step.assignments],
            )
            for step in self.program.steps()
        ]
        self._values = [_compiled(self.program.value(term)) for term in self.program.terms]
        self._conditions = [
            (_compiled(self.program.condition(one.fires)), _compiled(self.program.condition(one.clears)))
            for one in triggers
        ]

    def evaluate(self, reports: Booleans, at_ms: Integers, inputs: Mapping[Input, Column]) -> list[Changes]:
        """Return the triggers of which alerts begin or end.

        `reports` says which instruments have a report; it and the other arrays have one element for each instrument.
        """
        self._now = np.where(reports, np.maximum(self._now, at_ms), self._now)
        presence: dict[Input, tuple[Booleans, bool, Integers]] = {}
        for wanted, column in inputs.items():
            present = reports & column.present
            if present.any():
                presence[wanted] = present, bool(present.all()), _limited(column.x)
        for wanted, guard, assignments in self._steps:
            self._advance(reports, presence.get(wanted), guard, assignments)
        names = {"s": self.state}
        values = {"v": [_run(value, names) for value in self._values]}
        found = (self._decide(index, reports, values) for index in range(len(self._conditions)))
        return [one for one in found if one is not None]

    def _advance(
        self,
        reports: Booleans,
        column: tuple[Booleans, bool, Integers] | None,
        guard: Any,
        assignments: Sequence[tuple[int, Any]],
    ) -> None:
        """Execute a step where its guard is true, or where its input is present. Often that is everywhere."""
        names: dict[str, Any] = {"s": self.state, "now": self._now, "base": self._base}
        if guard is not None:
            changed = reports & _run(guard, names)
            if not changed.any():
                return
            is_everywhere = bool(changed.all())
        elif column is None:
            return
        else:
            changed, is_everywhere, names["x"] = column
        for place, value in assignments:
            found = _run(value, names)
            if is_everywhere and isinstance(found, np.ndarray):
                self.state[place] = found
            else:
                self.state[place] = np.where(changed, found, self.state[place])

    def _base(self, days: Integers, reading: str, percentile: int) -> Integers:
        """Return a percentile for the day of each instrument."""
        unique, places = np.unique(days, return_inverse=True)
        values = [self._bases(day, reading, percentile) for day in unique.tolist()]
        return np.array(values, np.int64)[places]

    def _decide(self, index: int, reports: Booleans, names: dict[str, Any]) -> Changes | None:
        """Begin and end the alerts of a trigger. Almost always the condition is false everywhere, and was false."""
        slots, trigger = self.program.slots[index], self.program.triggers[index]
        fires = reports & _run(self._conditions[index][0], names)
        if not (self._holds[index] or fires.any()):
            return None
        active, since = self.state[slots.active] == 1, self.state[slots.since]
        ended = active & reports & _run(self._conditions[index][1], names)
        since = np.where(fires & ~active & (since == 0), self._now + 1, since)
        begun = fires & ~active & (self._now + 1 - since >= trigger.lasts_ms)
        since = np.where(ended | (reports & ~active & ~fires), 0, since)
        self.state[slots.since] = since
        self.state[slots.active] = np.where(begun, 1, np.where(ended, 0, self.state[slots.active]))
        self._holds[index] = bool(since.any())
        return Changes(trigger, begun, ended) if begun.any() or ended.any() else None


def _limited(x: Integers) -> Integers:
    """Return the values, limited to ±X_MAX."""
    return x if x.min() >= -X_MAX and x.max() <= X_MAX else np.clip(x, -X_MAX, X_MAX)


class _Vectorized(ast.NodeTransformer):
    """Replaces what numpy expresses otherwise: conditional expressions, `and`, `or`, `not`, min and max.

    Divisions by powers of two become shifts, which are faster.
    """

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        return with_shift(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        return _call("where", *(self.visit(part) for part in (node.test, node.body, node.orelse)))

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        sign = ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr()
        joined, *rest = (self.visit(part) for part in node.values)
        for part in rest:
            joined = ast.BinOp(joined, sign, part)
        return joined  # type: ignore[no-any-return]

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        operand = self.visit(node.operand)
        return ast.UnaryOp(ast.Invert() if isinstance(node.op, ast.Not) else node.op, operand)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        assert isinstance(node.func, ast.Name)
        return _call(_NAMES[node.func.id], *(self.visit(argument) for argument in node.args))


_NAMES: Final = {"min": "minimum", "max": "maximum", "base": "base"}


def _call(name: str, *arguments: Any) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def _compiled(expression: ast.expr) -> Any:
    tree = ast.Expression(_Vectorized().visit(expression))
    return compile(ast.fix_missing_locations(tree), "<triggers>", "eval")


def _run(code: Any, names: dict[str, Any]) -> Any:
    functions = {"where": np.where, "minimum": np.minimum, "maximum": np.maximum}
    return eval(code, functions, names)  # noqa: S307
