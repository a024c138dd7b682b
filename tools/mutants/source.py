"""The mutants of one source file: the operators of mutmut, and one that removes calls made as statements.

Not mutated: annotations, type aliases, decorators, imports, class bases, asserts, the argument `strict` (an
assertion, too), slots, `__all__`, docstrings, texts with a space (messages), the numeric constants of a module and
its tables of numbers, whose values are decisions, and changes of `False` to `None`, which is also false. mutmut's own
selection also leaves out decorated functions and all code outside functions; these are mutated here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import filterfalse
from typing import Any, Final

import libcst as cst
import libcst.matchers as m
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_string

SKIPPED: Final = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom, cst.Assert)
_TYPE_ALIAS: Final = m.AnnAssign(annotation=m.Annotation(m.Name("TypeAlias")))


@dataclass(frozen=True)
class Mutant:
    """One change of one file, in a function or class."""

    file: str
    scope: str
    line: int
    module: cst.Module
    node: cst.CSTNode
    replacement: cst.CSTNode
    is_cached: bool = False
    """Whether it is in a function whose result is cached, so that only the first test that needs it executes it."""

    @cached_property
    def code(self) -> str:
        """The file with the change."""
        changed = cst.ensure_type(self.module.deep_replace(self.node, self.replacement), cst.Module)
        return changed.code

    @cached_property
    def lines(self) -> tuple[str, str]:
        """The lines that differ, before and after, without indentation."""
        return _difference(self.module.code, self.code)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identity that survives changes elsewhere in the file."""
        return self.file, self.scope, *self.lines


def mutants_of(file: str, code: str) -> list[Mutant]:
    """Return all mutants of a source text, in the order of their positions."""
    wrapper = MetadataWrapper(cst.parse_module(code))
    visitor = _MutationVisitor(wrapper)
    wrapper.module.visit(visitor)
    return [
        Mutant(file, scope, line, wrapper.module, node, replacement, is_cached)
        for node, replacement, scope, line, is_cached in visitor.changes
    ]


def _difference(before: str, after: str) -> tuple[str, str]:
    old, new = before.splitlines(), after.splitlines()
    was: list[str] = []
    becomes: list[str] = []
    for tag, i, j, k, n in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            was += [line.strip() for line in old[i:j]]
            becomes += [line.strip() for line in new[k:n]]
    return " ".join(was), " ".join(becomes)


class _MutationVisitor(cst.CSTVisitor):
    """Collects (node, replacement, scope, line, whether the function's result is cached)."""

    def __init__(self, wrapper: MetadataWrapper) -> None:
        super().__init__()
        self.changes: list[tuple[cst.CSTNode, cst.CSTNode, str, int, bool]] = []
        self._positions: Any = wrapper.resolve(PositionProvider)
        self._scope: list[cst.FunctionDef | cst.ClassDef] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if self._skips(node):
            return False
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._scope.append(node)
        scope = ".".join(enclosing.name.value for enclosing in self._scope)
        is_cached = any(map(_is_cached, self._scope))
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                for replacement in filterfalse(partial(_is_neutral, node), operator(node)):
                    self.changes.append((node, replacement, scope, self._line(node), is_cached))
        if isinstance(node, cst.ClassDef):  # its bases and keywords are declarations
            node.body.visit(self)
            self.on_leave(node)
            return False
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if self._scope and self._scope[-1] is original_node:
            self._scope.pop()

    def _skips(self, node: cst.CSTNode) -> bool:
        if isinstance(node, SKIPPED) or _is_strict(node) or m.matches(node, _TYPE_ALIAS):
            return True
        if isinstance(node, cst.Expr) and isinstance(node.value, cst.SimpleString | cst.ConcatenatedString):
            return True
        if isinstance(node, cst.Assign | cst.AnnAssign) and not self._in_function():
            return _is_name_list(node) or (not self._scope and _is_number(node.value))
        return False

    def _in_function(self) -> bool:
        return any(isinstance(enclosing, cst.FunctionDef) for enclosing in self._scope)

    def _line(self, node: cst.CSTNode) -> int:
        code_range: CodeRange | None = self._positions.get(node)
        return code_range.start.line if code_range else 0


def _is_cached(node: cst.FunctionDef | cst.ClassDef) -> bool:
    """Return whether the function has a decorator of functools that caches its results."""
    names = m.Name("cache") | m.Name("lru_cache")
    return any(m.matches(each.decorator, names | m.Call(func=names)) for each in node.decorators)


def _is_name_list(node: cst.Assign | cst.AnnAssign) -> bool:
    targets = [t.target for t in node.targets] if isinstance(node, cst.Assign) else [node.target]
    return any(isinstance(t, cst.Name) and t.value in ("__slots__", "__all__") for t in targets)


def _is_number(value: cst.BaseExpression | None) -> bool:
    if isinstance(value, cst.BinaryOperation):
        return _is_number(value.left) and _is_number(value.right)
    if isinstance(value, cst.Tuple):
        return bool(value.elements) and all(_is_number(element.value) for element in value.elements)
    if isinstance(value, cst.UnaryOperation) and isinstance(value.operator, cst.Minus):
        return _is_number(value.expression)
    if isinstance(value, cst.Dict):
        return bool(value.elements) and all(_is_number(element.value) for element in value.elements)
    if isinstance(value, cst.Name):
        return value.value not in ("True", "False", "None")
    return isinstance(value, cst.BaseNumber)


def _is_neutral(node: cst.CSTNode, replacement: cst.CSTNode) -> bool:
    """Return whether the change is `False` becoming `None`, or concerns the argument `strict`, an assertion."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, cst.Assign | cst.AnnAssign) and isinstance(replacement, cst.Assign | cst.AnnAssign):
        pairs = [(node, replacement)]
    elif isinstance(node, cst.Call) and isinstance(replacement, cst.Call):
        if [a for a in node.args if _is_strict(a)] != [a for a in replacement.args if _is_strict(a)]:
            return True
        pairs = zip(node.args, replacement.args, strict=False)
    return any(
        was is not becomes
        and m.matches(was.value, m.Name("False"))
        and m.matches(becomes.value, m.Name("None"))
        for was, becomes in pairs
    )


def _is_strict(node: cst.CSTNode) -> bool:
    return m.matches(node, m.Arg(keyword=m.Name("strict")))


def _string(node: cst.BaseString) -> Iterator[cst.BaseString]:
    """Yield another string; messages are excluded, because tests should not repeat their wording."""
    if isinstance(node, cst.SimpleString) and " " not in node.value:
        yield from list(operator_string(node))[:1]


def _removed_call(node: cst.Expr) -> Iterator[cst.Expr]:
    """`call()` as a statement becomes `None`."""
    called = node.value.expression if isinstance(node.value, cst.Await) else node.value
    if isinstance(called, cst.Call | cst.Yield):
        yield node.with_changes(value=cst.Name("None"))


OPERATORS: Final[list[tuple[type, Callable[[Any], Iterable[cst.CSTNode]]]]] = [
    *((kind, _string if operator is operator_string else operator) for kind, operator in mutation_operators),
    (cst.Expr, _removed_call),
]
