"""Evaluates triggers for many instruments at once, with numpy: one call for the next report of each instrument."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from datacenter.triggers.program import Program
from datacenter.triggers.terms.base import Bases, no_base
from datacenter.triggers.terms.inputs import X_MAX, Input
from datacenter.triggers.triggerfile import Trigger

Integers: TypeAlias = npt.NDArray[np.int64]
Booleans: TypeAlias = npt.NDArray[np.bool_]


class Column(NamedTuple):
    """An input's value in the report of each instrument, where the report has one."""

    present: Booleans
    x: Integers


class ColumnEvaluator:
    """The triggers of `count` instruments of one model, in equal places of all arrays.

    `bases` are the percentiles of the installed base of the model.
    """

    def __init__(self, triggers: Sequence[Trigger], count: int, bases: Bases = no_base) -> None:
        self._bases = bases
        self.program = Program(triggers)
        self.state = [np.full(count, value, np.int64) for value in self.program.initial]
        self._now = np.zeros(count, np.int64)
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

    def evaluate(
        self, reports: Booleans, at_ms: Integers, inputs: Mapping[Input, Column]
    ) -> list[tuple[Booleans, Booleans]]:
        """For each trigger, of which instruments an alert begins, and of which one ends.

        `reports` says which instruments have a report; it and the other arrays have one element for each instrument.
        """
        self._now = np.where(reports, np.maximum(self._now, at_ms), self._now)
        for wanted, guard, assignments in self._steps:
            self._advance(reports, inputs.get(wanted), guard, assignments)
        names = {"s": self.state}
        values = [_run(value, names) for value in self._values]
        return [self._decide(index, reports, {"v": values}) for index in range(len(self._conditions))]

    def _advance(self, reports: Booleans, column: Column | None, guard: Any, assignments: Any) -> None:
        names: dict[str, Any] = {"s": self.state, "now": self._now, "base": self._base}
        if guard is not None:
            changed = reports & _run(guard, names)
        elif column is None:
            return
        else:
            changed = reports & column.present
            names["x"] = np.clip(column.x, -X_MAX, X_MAX)
        if changed.any():
            for place, value in assignments:
                self.state[place] = np.where(changed, _run(value, names), self.state[place])

    def _base(self, days: Integers, reading: str, percentile: int) -> Integers:
        """Return a percentile for the day of each instrument."""
        unique, places = np.unique(days, return_inverse=True)
        values = [self._bases(day, reading, percentile) for day in unique.tolist()]
        return np.array(values, np.int64)[places]

    def _decide(self, index: int, reports: Booleans, names: dict[str, Any]) -> tuple[Booleans, Booleans]:
        slots, trigger = self.program.slots[index], self.program.triggers[index]
        fires, clears = (reports & _run(condition, names) for condition in self._conditions[index])
        active, since = self.state[slots.active] == 1, self.state[slots.since]
        ended = active & clears
        since = np.where(fires & ~active & (since == 0), self._now + 1, since)
        begun = fires & ~active & (self._now + 1 - since >= trigger.lasts_ms)
        since = np.where(ended | (reports & ~active & ~fires), 0, since)
        self.state[slots.since] = since
        self.state[slots.active] = np.where(begun, 1, np.where(ended, 0, self.state[slots.active]))
        return begun, ended


class _Vectorized(ast.NodeTransformer):
    """Replaces what numpy expresses otherwise: conditional expressions, `and`, `or`, `not`, min and max."""

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
