"""The program's text, compiled to a Python function for each kind of report.

It evaluates triggers where the extension module is not built (`machine`), with the same verdicts.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, TypeAlias

from datacenter.triggers.program import Program, with_shift
from datacenter.triggers.terms.base import Bases
from datacenter.triggers.terms.inputs import NAMES, X_MAX, Input
from datacenter.triggers.terms.term import ABSENT, Term
from datacenter.triggers.tree import terms
from datacenter.triggers.triggerfile import Trigger
from settings.profile import Profile

Evaluate: TypeAlias = Callable[[Any, int, Any, list[tuple[int, bool]], Bases], None]
"""Evaluates a report: state, time, report, a list to which indices of triggers and whether their alerts begin are
added, and the installed base."""


def compile_kind(program: Program, kind: type, profile: Profile) -> Evaluate:
    """Return the function for reports of `kind`."""
    names: dict[str, Any] = {"ABSENT": ABSENT, **NAMES}
    exec(compile(_source(program, kind, profile), f"<triggers, {kind.__name__}>", "exec"), names)  # noqa: S102
    function: Evaluate = names["evaluate"]
    return function


def compile_value(program: Program, term: Term) -> Callable[[Any], int]:
    """Return the function that computes a term from the state."""
    function: Callable[[Any], int] = eval(f"lambda s: {_scalar(program.value(term))}")  # noqa: S307
    return function


def _source(program: Program, kind: type, profile: Profile) -> str:
    """Return the text of the function for reports of `kind`.

    Triggers without a term whose input these reports have are evaluated only if time has moved a window, or the
    condition of one of them already holds: otherwise nothing can change.
    """
    own = [
        i
        for i, trigger in enumerate(program.triggers)
        if any(t.input.report is kind for t in program.terms_of(trigger))
    ]
    others = [i for i in range(len(program.triggers)) if i not in own]
    lines = ["def evaluate(s, now, r, changes, base):", "    moved = False"]
    of_inputs: dict[Input, list[str]] = {}
    for step in program.steps():
        assignments = [f"s[{index}] = {_scalar(value)}" for index, value in step.assignments]
        if step.guard is None:
            of_inputs.setdefault(step.term.input, []).extend(assignments)
        else:
            lines += [f"    if {_scalar(step.guard)}:", *(f"        {line}" for line in assignments)]
            lines.append("        moved = True")
    for wanted, assignments in of_inputs.items():
        if wanted.report is kind:
            lines += [f"    x = {wanted.text(profile)}", "    if x != ABSENT:"]
            lines += [
                f"        if not {-X_MAX} <= x <= {X_MAX}:",
                f"            x = {X_MAX} if x > 0 else {-X_MAX}",
            ]
            lines += [f"        {line}" for line in assignments]
    lines += [f"    {line}" for line in _decisions(program, own)]
    if others:
        holding = " or ".join(f"s[{program.slots[i].since}]" for i in others)
        lines += [f"    if moved or {holding}:", *(f"        {line}" for line in _decisions(program, others))]
    return _with_shared_times("\n".join(lines))


def _decisions(program: Program, triggers: Sequence[int]) -> list[str]:
    """Return the lines that compute the terms of these triggers, and begin and end their alerts."""
    used = {
        term
        for i in triggers
        for condition in (program.triggers[i].fires, program.triggers[i].clears)
        for term in terms(condition)
    }
    lines = [f"v{i} = {_scalar(program.value(term))}" for i, term in enumerate(program.terms) if term in used]
    for i in triggers:
        lines += _decision(program, i, program.triggers[i])
    return lines or ["pass"]


def _with_shared_times(text: str) -> str:
    """Compute each quotient of the time once: the windows of equal duration change together."""
    for index, quotient in enumerate(dict.fromkeys(re.findall(r"now // \d+", text))):
        text = re.sub(rf"{quotient}(?!\d)", f"now{index}", text)
        text = text.replace("    moved = False\n", f"    now{index} = {quotient}\n    moved = False\n", 1)
    return text


def _decision(program: Program, index: int, trigger: Trigger) -> list[str]:
    """Return the lines that begin and end alerts, fast if the condition is false and was false."""
    slots = program.slots[index]
    fires, clears = (_scalar(program.condition(condition)) for condition in (trigger.fires, trigger.clears))
    since, active = f"s[{slots.since}]", f"s[{slots.active}]"
    return [
        f"if ({fires}) or {since}:",
        f"    if {active}:",
        f"        if {clears}:",
        f"            {active} = {since} = 0",
        f"            changes.append(({index}, False))",
        f"    elif {fires}:",
        f"        if not {since}:",
        f"            {since} = now + 1",
        f"        if now + 1 - {since} >= {trigger.lasts_ms}:",
        f"            {active} = 1",
        f"            changes.append(({index}, True))",
        "    else:",
        f"        {since} = 0",
    ]


class _Scalar(ast.NodeTransformer):
    """Replaces slow expressions.

    `v[3]` becomes the local variable `v3`, min and max become comparisons, divisions by powers of two become shifts.
    """

    def __init__(self) -> None:
        self._names = count()

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        assert isinstance(node.value, ast.Name)
        assert isinstance(node.slice, ast.Constant)
        return ast.Name(f"v{node.slice.value!r}", ast.Load()) if node.value.id == "v" else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        return with_shift(node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        assert isinstance(node.func, ast.Name)
        if node.func.id == "base":
            return node
        names = [f"_{next(self._names)}" for _ in node.args]
        sign = "<" if node.func.id == "min" else ">"
        first, second = (
            f"({name} := {ast.unparse(self.visit(argument))})"
            for name, argument in zip(names, node.args, strict=True)
        )
        text = f"{names[0]} if {first} {sign} {second} else {names[1]}"
        return ast.parse(text, mode="eval").body


def _scalar(expression: ast.expr) -> str:
    return ast.unparse(_Scalar().visit(expression))
