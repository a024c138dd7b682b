"""Translates policies to the WHERE clause of a list: exactly the rows whose resource the principal may access.

The attributes of the resource are columns; everything else is known, and is evaluated while the clause is built. The
clause has only equalities and IN with bound parameters, which SQLite and PostgreSQL evaluate in the same way: byte by
byte, if the columns have the usual collations. A column that is NULL is an empty attribute; each comparison handles
it, so that no part of the clause is NULL, and `NOT` is safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, and_, false, func, not_, or_, true

from datacenter.access.language.evaluation import holds, members_of, value_of
from datacenter.access.language.expression import (
    Condition,
    Conjunction,
    Contains,
    Disjunction,
    Negation,
    Operand,
    Reference,
    Relation,
    Trained,
    TrainingExpiry,
    Within,
    compare,
)
from datacenter.access.language.policy import PolicySet
from datacenter.access.request import AccessRequest, Principal, RequestContext, Resource
from datacenter.access.vocabulary import EVERYWHERE, KINDS, LEVELS

Columns: TypeAlias = Mapping[str, ColumnElement[Any] | None]
"""The columns with the attributes of the resources: `id`, those of the resource type, and one for each level of
locations; None if the resources have no location of that level."""
Clause: TypeAlias = "bool | ColumnElement[bool]"


def where_permitted(
    policies: PolicySet,
    principal: Principal,
    action: str,
    kind: str,
    context: RequestContext,
    columns: Columns,
) -> ColumnElement[bool]:
    """Return the WHERE clause for the resources of type `kind` with which the principal may do `action`.

    Raises: ValueError if `columns` does not name all attributes.
    """
    needed = ["id", *LEVELS, *KINDS.get(kind, ())]
    if lacking := [
        name for name in needed if name not in columns or (columns[name] is None and name not in LEVELS)
    ]:
        raise ValueError(f"a list of resources of type {kind} needs a column for {', '.join(lacking)}")
    applicable = policies.applicable.get((action, kind))
    if applicable is None:
        return false()
    translator = _Translator(AccessRequest(principal, action, Resource(kind, ""), context), columns)
    forbidden = _any(translator.clause(condition) for _, condition in applicable.forbids)
    if forbidden is True:
        return false()
    clause = _all(
        [_any(translator.clause(condition) for _, condition in applicable.permits), _not(forbidden)]
    )
    if isinstance(clause, bool):
        return true() if clause else false()
    return clause


def _all(parts: Iterable[Clause]) -> Clause:
    """Return the conjunction; parts after a false one are not evaluated, because they may rely on its being true."""
    unknown: list[ColumnElement[bool]] = []
    for part in parts:
        if part is False:
            return False
        if not isinstance(part, bool):
            unknown.append(part)
    return and_(*unknown) if unknown else True


def _any(parts: Iterable[Clause]) -> Clause:
    """Return the disjunction; parts after a true one are not evaluated, because they may rely on its being false."""
    unknown: list[ColumnElement[bool]] = []
    for part in parts:
        if part is True:
            return True
        if not isinstance(part, bool):
            unknown.append(part)
    return or_(*unknown) if unknown else False


def _not(part: Clause) -> Clause:
    return not part if isinstance(part, bool) else not_(part)


class _Translator:
    """Translates conditions for a request whose resource is a row."""

    def __init__(self, request: AccessRequest, columns: Columns) -> None:
        self._request = request
        self._columns = columns

    def clause(self, condition: Condition) -> Clause:
        """Return the clause of a condition, or its value if no column is needed."""
        match condition:
            case Negation(operand):
                return _not(self.clause(operand))
            case Conjunction(parts):
                return _all(map(self.clause, parts))
            case Disjunction(parts):
                return _any(map(self.clause, parts))
            case Within(element, groups) if element.root == "resource":
                return self._in_locations(members_of(groups, self._request))
            case Trained(model) if _is_column(model):
                return self._equals(model, self._request.principal.trainings)
            case Contains(collection, item) if _is_column(item):
                return self._equals(item, members_of(collection, self._request))
            case Relation(sign, left, right):
                return self._relation(sign, left, right)
        return holds(condition, self._request)

    def _relation(self, sign: str, left: Operand, right: Operand) -> Clause:
        if sign == "==" and (_is_column(left) or _is_column(right)):
            return self._equality(left, right)
        model = _model_column(left) or _model_column(right)
        if model is None:
            return compare(sign, value_of(left, self._request), value_of(right, self._request))
        trainings = self._request.principal.trainings
        first, second = self._time(left), self._time(right)
        return self._equals(model, [name for name in trainings if compare(sign, first(name), second(name))])

    def _equality(self, left: Operand, right: Operand) -> Clause:
        if not _is_column(left):
            left, right = right, left
        if not _is_column(right):
            return self._equals(left, [value_of(right, self._request)])
        return func.coalesce(self._column(left), "") == func.coalesce(self._column(right), "")

    def _time(self, operand: Operand) -> Callable[[str], int]:
        """Return the function from the model in the column to the value of an operand."""
        if _model_column(operand) is not None:
            return self._request.principal.trainings.__getitem__
        known: int = value_of(operand, self._request)
        return lambda _: known

    def _in_locations(self, names: frozenset[str]) -> Clause:
        if EVERYWHERE in names:
            return True
        return _any(self._in_level(level, names) for level in LEVELS)

    def _in_level(self, level: str, names: frozenset[str]) -> Clause:
        column = self._columns[level]
        inside = [name.removeprefix(f"{level}/") for name in names if name.startswith(f"{level}/")]
        return False if column is None else _equals(column, inside)

    def _equals(self, operand: Operand, values: Iterable[str]) -> Clause:
        return _equals(self._column(operand), values)

    def _column(self, operand: Operand) -> ColumnElement[Any]:
        assert isinstance(operand, Reference)
        column = self._columns[operand.names[0] if operand.names else "id"]
        assert column is not None, "only locations may lack a column"
        return column


def _is_column(operand: Operand) -> bool:
    return isinstance(operand, Reference) and operand.root == "resource"


def _model_column(operand: Operand) -> Operand | None:
    """Return the column by which a training is looked up; None if the operand is known."""
    return operand.model if isinstance(operand, TrainingExpiry) and _is_column(operand.model) else None


def _equals(column: ColumnElement[Any], values: Iterable[str]) -> Clause:
    """Return the clause that a column has one of the values; NULL counts as the empty string."""
    wanted = sorted(set(values))
    if not wanted:
        return False
    equal = column == wanted[0] if len(wanted) == 1 else column.in_(wanted)
    return or_(column.is_(None), equal) if "" in wanted else and_(column.is_not(None), equal)
