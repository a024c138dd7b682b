"""Compiles a program to instructions for machine.c, which evaluates reports without Python.

The instructions compute with rows of integers: the state of the program comes first, then time, inputs, constants and
intermediate results. In `run_one` a row is one integer, of one instrument; in `run_many` it is LANES integers, one
for each instrument.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from datacenter.extension import extension
from datacenter.triggers.program import Program, with_shift
from datacenter.triggers.terms.base import Base
from datacenter.triggers.terms.inputs import X_MAX, Input

_BINARY: Final[dict[type[ast.AST], str]] = {
    ast.Add: "ADD",
    ast.Sub: "SUBTRACT",
    ast.Mult: "MULTIPLY",
    ast.FloorDiv: "DIVIDE",
    ast.RShift: "SHIFT",
    ast.And: "AND",
    ast.Or: "OR",
    ast.Lt: "LESS",
    ast.LtE: "AT_MOST",
    ast.Eq: "EQUAL",
    ast.NotEq: "DIFFERENT",
}
_REVERSED: Final[dict[type[ast.AST], str]] = {ast.Gt: "LESS", ast.GtE: "AT_MOST"}
_UNARY: Final[dict[type[ast.AST], str]] = {ast.USub: "NEGATE", ast.Not: "NOT"}
_CALLS: Final = {"min": "LEAST", "max": "GREATEST"}


def compiled() -> Any:
    """Return the module of machine.c; None if it was not built."""
    return extension("datacenter.triggers._machine")


@dataclass(frozen=True)
class TriggerMachine:
    """The instructions for the reports that can have these inputs."""

    inputs: tuple[Input, ...]
    first_input: int
    """The row of the first input."""
    address: Any
    """The `machine` of machine.c."""
    kept: Any = field(repr=False)
    """The memory that it refers to."""


@dataclass(frozen=True)
class Machines:
    """Instructions for several kinds of reports, which compute with the same rows."""

    of: tuple[TriggerMachine, ...]
    registers: tuple[int, ...]
    """The rows of an instrument without reports."""
    bases: tuple[Base, ...]
    first_base: int
    """The row of the first percentile of `bases`."""
    found: int
    """The first row of the transitions that `run_one` has found."""


def make_machines(program: Program, kinds: Sequence[Sequence[Input]], *, for_many: bool = False) -> Machines:
    """Return instructions for each kind of reports, given by its inputs: for `run_one`, or for `run_many`.

    The extension module must be built.
    """
    assembler = _Assembler(program, for_many=for_many)
    machines = tuple(assembler.machine(inputs) for inputs in kinds)
    return Machines(
        machines, tuple(assembler.registers), assembler.bases, assembler.first_base, assembler.found
    )


class _Assembler:
    """Creates instructions. Rows are numbered as needed; rows of intermediate results are reused."""

    def __init__(self, program: Program, *, for_many: bool) -> None:
        self._for_many = for_many
        module = compiled()
        self._lib, self._ffi = module.lib, module.ffi
        self._program = program
        self.registers = list(program.initial)
        self.bases = tuple(term for term in program.terms if isinstance(term, Base))
        self._now, self._exists = self._row(), self._row(1)
        self.first_base = self._rows(len(self.bases))
        self.found = self._rows(len(program.triggers))
        self._constants: dict[int, int] = {}
        self._free: list[int] = []
        self._used: list[int] = []
        self._begin()

    def _begin(self) -> None:
        self._x = self._now
        self._quotients: dict[str, int] = {}
        """The rows of the quotients of the time, each computed once: equal windows change together."""
        self._first: list[tuple[int, ...]] = []
        """The instructions that compute them."""
        self._code: list[tuple[int, ...]] = []

    def machine(self, inputs: Sequence[Input]) -> TriggerMachine:
        self._begin()
        first_input, first_presence = self._rows(len(inputs)), self._rows(len(inputs))
        steps = list(self._program.steps())
        for step in steps:
            if step.guard is not None:
                self._assign(self._expression(step.guard), step.assignments)
        for row, one in enumerate(inputs):
            self._x = first_input + row
            of_input = [step.assignments for step in steps if step.guard is None and step.term.input == one]
            self._assign(first_presence + row, [a for assignments in of_input for a in assignments])
        values = [self._kept(self._program.value(term)) for term in self._program.terms]
        for index in range(len(self._program.triggers)):
            self._decide(index, values)
        jumps, shift = (self._lib.GUARD, self._lib.HOLD), len(self._first)
        moved = [
            (*instruction[:5], instruction[5] + shift) if instruction[0] in jumps else instruction
            for instruction in self._code
        ]
        code = self._ffi.new("instruction[]", [*self._first, *moved])
        address = self._ffi.new(
            "machine *",
            {
                "code": code,
                "count": len(code),
                "now": self._now,
                "exists": self._exists,
                "inputs": len(inputs),
                "input_max": X_MAX,
                "first_input": first_input,
                "first_presence": first_presence,
                "bases": len(self.bases),
                "first_base": self.first_base,
                "found": self.found,
            },
        )
        return TriggerMachine(tuple(inputs), first_input, address, code)

    def _assign(self, condition: int, assignments: Sequence[tuple[int, ast.expr]]) -> None:
        """Emit assignments that are executed where a condition is true."""
        if not assignments:
            return
        guard = self._temporary()
        begin = self._emit("GUARD", guard, condition)
        kept, self._used = self._used, []
        for row, value in assignments:
            result = self._expression(value)
            if self._for_many:  # the condition may be true for only some of the instruments
                self._emit("CHOOSE", row, guard, result, row)
            elif result in self._used:
                self._code[-1] = (self._code[-1][0], row, *self._code[-1][2:])
            else:
                self._emit("COPY", row, result)
            self._release()
        self._used = kept
        self._end_block(begin)
        self._release()

    def _decide(self, index: int, values: Sequence[int]) -> None:
        """Emit code that begins and ends a trigger's alerts, skipped while the condition is and was false."""
        trigger, slots = self._program.triggers[index], self._program.slots[index]
        fires = self._expression(self._program.condition(trigger.fires), values)
        held = self._temporary()
        begin = self._emit("HOLD", held, fires, slots.since, self._exists)
        clears = self._expression(self._program.condition(trigger.clears), values)
        self._emit("DECIDE", held, slots.since, fires, clears, self._constant(trigger.lasts_ms))
        self._end_block(begin)
        self._release()

    def _end_block(self, begin: int) -> None:
        self._code[begin] = (*self._code[begin][:5], len(self._code))

    def _kept(self, expression: ast.expr) -> int:
        """Return a row with the value of an expression that is kept until the end."""
        row = self._expression(expression)
        if row in self._used:
            self._used.remove(row)
        self._release()
        return row

    def _expression(self, node: ast.expr, values: Sequence[int] = ()) -> int:
        """Return the row of the value of an expression."""
        match node:
            case ast.BinOp(ast.Name("now"), ast.FloorDiv(), ast.Constant()):
                return self._quotient(node)
            case ast.BinOp():
                node = with_shift(node)
                return self._operation(_BINARY[type(node.op)], (node.left, node.right), values)
            case ast.BoolOp():
                return self._joined(_BINARY[type(node.op)], node.values, values)
            case ast.Compare(left, [operator], [right]):
                if type(operator) in _REVERSED:
                    return self._operation(_REVERSED[type(operator)], (right, left), values)
                return self._operation(_BINARY[type(operator)], (left, right), values)
            case ast.IfExp(test, body, orelse):
                return self._operation("CHOOSE", (test, body, orelse), values)
            case ast.Call(ast.Name("base"), [_, reading, percentile]):
                names = [(repr(base.input.word), str(base.percentile)) for base in self.bases]
                return self.first_base + names.index((ast.unparse(reading), ast.unparse(percentile)))
            case ast.Call(ast.Name(name), arguments):
                return self._operation(_CALLS[name], arguments, values)
            case ast.Subscript(ast.Name(name), ast.Constant(int(index))):
                return index if name == "s" else values[index]
            case ast.Name("x"):
                return self._x
            case ast.Name("now"):
                return self._now
            case ast.Constant(int(value)):
                return self._constant(value)
            case ast.UnaryOp(ast.USub(), ast.Constant(int(value))):
                return self._constant(-value)
            case ast.UnaryOp():
                return self._operation(_UNARY[type(node.op)], (node.operand,), values)
        raise TypeError(f"a term or condition with {ast.unparse(node)}")

    def _operation(self, name: str, operands: Sequence[ast.expr], values: Sequence[int]) -> int:
        rows = [self._expression(operand, values) for operand in operands]
        to = self._temporary()
        self._emit(name, to, *rows)
        return to

    def _joined(self, name: str, parts: Sequence[ast.expr], values: Sequence[int]) -> int:
        joined, *rest = (self._expression(part, values) for part in parts)
        for row in rest:
            to = self._temporary()
            self._emit(name, to, joined, row)
            joined = to
        return joined

    def _quotient(self, node: ast.BinOp) -> int:
        text = ast.unparse(node)
        if (row := self._quotients.get(text)) is None:
            assert isinstance(node.right, ast.Constant)
            assert isinstance(node.right.value, int)
            row = self._quotients[text] = self._row()
            self._first.append((self._lib.DIVIDE, row, self._now, self._constant(node.right.value), 0, 0))
        return row

    def _constant(self, value: int) -> int:
        if value not in self._constants:
            self._constants[value] = self._row(value)
        return self._constants[value]

    def _emit(self, name: str, *rows: int) -> int:
        self._code.append((getattr(self._lib, name), *rows, *[0] * (5 - len(rows))))
        return len(self._code) - 1

    def _temporary(self) -> int:
        row = self._free.pop() if self._free else self._row()
        self._used.append(row)
        return row

    def _release(self) -> None:
        """Release the rows of intermediate results for reuse."""
        self._free += self._used
        self._used = []

    def _rows(self, count: int) -> int:
        first = len(self.registers)
        self.registers += [0] * count
        return first

    def _row(self, initial: int = 0) -> int:
        self.registers.append(initial)
        return len(self.registers) - 1
