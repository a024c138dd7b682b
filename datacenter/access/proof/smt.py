"""Policies as formulas of an SMT solver, about every possible request.

Names are integers. Each name in a policy has a unique number; all other integers are names that no policy mentions.
Staff, resource and circumstances of the request are unknowns, so that a formula is about all staff, all instruments
and all moments. Sets of locations are predicates for each level; trainings are a predicate and a function of the
model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import z3

from datacenter.access.language.expression import (
    Condition,
    Conjunction,
    Constant,
    ConstantSet,
    Contains,
    Disjunction,
    HasType,
    Negation,
    Operand,
    Present,
    Reference,
    Relation,
    Trained,
    TrainingExpiry,
    Within,
)
from datacenter.access.language.policy import Applicable, Pair
from datacenter.access.request import AccessRequest, Resource
from datacenter.access.vocabulary import (
    ACTIONS,
    ENUMS,
    EVERYWHERE,
    GROUPS,
    KINDS,
    LEVELS,
    OPTIONAL,
    ROLES,
    Level,
)

NOW_MS_MAX: Final = 2**53


class NameNumbers:
    """Numbers of names: equal numbers of one type are equal names."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        for kind, names in {**ENUMS, "Action": (*ACTIONS, *GROUPS)}.items():
            for name in names:
                self.number(kind, name)

    def number(self, kind: str, name: str) -> int:
        """Return the number of a name."""
        key = (kind, name)
        if key not in self._numbers:
            self._numbers[key] = len(self.all(kind))
            self._names.setdefault(kind, []).append(name)
        return self._numbers[key]

    def name(self, kind: str, number: int) -> str:
        """Return the name with a number; a generated name if it is unknown."""
        known = self._names.get(kind, [])
        if 0 <= number < len(known):
            return known[number]
        prefix = {"String": "model", "Staff": "person"}.get(kind, kind.lower())
        return f"{prefix}-{number}" if number >= 0 else f"{prefix}-n{-number}"

    def all(self, kind: str) -> list[str]:
        """Return the known names of a type."""
        return self._names.get(kind, [])


@dataclass(frozen=True)
class LocationSet:
    """A set of locations: a predicate for each level, and whether it contains everything."""

    levels: dict[Level, z3.FuncDeclRef]
    everywhere: z3.BoolRef


def _location_set(name: str) -> LocationSet:
    levels = {level: z3.Function(f"{name}.{level}", z3.IntSort(), z3.BoolSort()) for level in LEVELS}
    return LocationSet(levels, z3.Bool(f"{name}.everywhere"))


class SymbolicRequest:
    """The unknowns of a request for one action and one type of resources.

    An optional attribute of the context that is in `absent` is missing; all other unknowns are the same in all
    instances.
    """

    def __init__(self, pair: Pair, names: NameNumbers, absent: frozenset[str] = frozenset()) -> None:
        self.pair, self.names = pair, names
        self._formulas: dict[Condition, Any] = {}
        integer, boolean = z3.IntSort(), z3.BoolSort()
        self.roles = {role: z3.Bool(f"principal in {role}") for role in ROLES}
        self.trained = z3.Function("principal.hasTag", integer, boolean)
        self.expiry = z3.Function("principal.getTag", integer, integer)
        self.scopes = {name: _location_set(f"{name}.scope") for name in ("principal", "context.token")}
        self.token_actions = {name: z3.Bool(f"token allows {name}") for name in (*ACTIONS, *GROUPS)}
        self.present: dict[str, z3.BoolRef] = {
            name: z3.BoolVal(False) if name in absent else z3.Bool(f"context has {name}") for name in OPTIONAL
        }
        self.levels = {level: z3.Int(f"resource.{level}") for level in LEVELS}

    def integer(self, reference: Reference) -> z3.ArithRef:
        """Return the unknown of a reference."""
        return z3.Int(str(reference))

    def permitted(self, applicable: Applicable) -> Any:
        """Return the formula which states that the request is permitted."""
        permits = [self.formula(condition) for _, condition in applicable.permits]
        return z3.And(z3.Or(permits), z3.Not(self.forbidden(applicable)))

    def forbidden(self, applicable: Applicable) -> Any:
        """Return the formula which states that a policy forbids the request."""
        return z3.Or([self.formula(condition) for _, condition in applicable.forbids])

    def formula(self, condition: Condition) -> Any:
        """Return the formula of a condition that has been specialized for the pair.

        Equal conditions share it: making formulas takes most of the time of a proof.
        """
        known = self._formulas.get(condition)
        if known is None:
            known = self._formulas[condition] = self._translated(condition)
        return known

    def _translated(self, condition: Condition) -> Any:
        match condition:
            case Constant(value):
                return z3.BoolVal(bool(value))
            case Reference():
                return z3.Bool(str(condition))
            case Negation(operand):
                return z3.Not(self.formula(operand))
            case Conjunction(parts):
                return z3.And([self.formula(part) for part in parts])
            case Disjunction(parts):
                return z3.Or([self.formula(part) for part in parts])
            case Relation(sign, left, right):
                return self._relation(sign, self._operand(left), self._operand(right))
            case Trained(model):
                return self.trained(self._operand(model))
            case Present(reference):
                return self.present[reference.names[0]]
            case Contains(collection, item):
                return self._contains(collection, item)
            case Within(element, groups):
                return self._has_role(groups) if element.root == "principal" else self._inside(groups)
            case HasType():
                raise AssertionError("`specialize` decides the type of the resource")

    def _relation(self, sign: str, left: Any, right: Any) -> Any:
        return left == right if sign == "==" else left < right if sign == "<" else left <= right

    def _operand(self, operand: Operand) -> Any:
        match operand:
            case Constant(value, "Long"):
                return z3.IntVal(int(value))
            case Constant(value, kind):
                return z3.IntVal(self.names.number(kind, str(value)))
            case TrainingExpiry(model):
                return self.expiry(self._operand(model))
            case Reference():
                return self.integer(operand)

    def _has_role(self, groups: Reference | ConstantSet) -> Any:
        assert isinstance(groups, ConstantSet)
        return z3.Or([self.roles[role] for role in ROLES if role in {item.value for item in groups.items}])

    def _inside(self, groups: Reference | ConstantSet) -> Any:
        if isinstance(groups, Reference):
            scope = self.scopes[".".join((groups.root, *groups.names[:-1]))]
            inside = [scope.levels[level](self.levels[level]) for level in LEVELS]
            return z3.Or(scope.everywhere, *inside)
        return z3.Or([self._inside_one(str(item.value)) for item in groups.items])

    def _inside_one(self, location: str) -> Any:
        if location == EVERYWHERE:
            return z3.BoolVal(True)
        return z3.Or(
            [
                self.levels[level] == self.names.number(level, location.removeprefix(f"{level}/"))
                for level in LEVELS
                if location.startswith(f"{level}/")
            ]
        )

    def _contains(self, collection: Reference | ConstantSet, item: Operand) -> Any:
        assert isinstance(collection, Reference), "`specialize` expands sets of literals"
        if collection.type == "Set<Action>":
            if isinstance(item, Constant):
                return self.token_actions[str(item.value)]
            wanted = self._operand(item)
            return z3.Or(
                [
                    z3.And(wanted == self.names.number("Action", name), has)
                    for name, has in self.token_actions.items()
                ]
            )
        assert isinstance(item, Constant), "no attribute is a location"
        scope = self.scopes[".".join((collection.root, *collection.names[:-1]))]
        if item.value == EVERYWHERE:
            return scope.everywhere
        return z3.Or(
            [
                scope.levels[level](self.names.number(level, str(item.value).removeprefix(f"{level}/")))
                for level in LEVELS
                if str(item.value).startswith(f"{level}/")
            ]
        )

    def possible(self) -> Iterator[Any]:
        """Yield the constraints of every request: enumerations have only their names, times are after 1970."""
        now = z3.Int("context.now_ms")
        yield z3.And(now >= 0, now <= NOW_MS_MAX)
        attributes = {"context.purpose": "Purpose"}
        attributes |= {
            f"resource.{name}": kind for name, kind in KINDS[self.pair[1]].items() if kind in ENUMS
        }
        for name, kind in attributes.items():
            yield z3.And(z3.Int(name) >= 0, z3.Int(name) < len(ENUMS[kind]))
        if "change" in KINDS[self.pair[1]]:
            yield z3.And(z3.Int("resource.change") >= 0, z3.Int("resource.change") < len(ACTIONS))

    def assigned_resource(self, resource: Resource) -> Iterator[Any]:
        """Yield the formulas by which the unknowns of the resource have the values of this one."""
        yield z3.Int("resource") == self.names.number(resource.kind, resource.id)
        for name, kind in KINDS[resource.kind].items():
            yield z3.Int(f"resource.{name}") == self.names.number(kind, getattr(resource, name))
        for level, unknown in self.levels.items():
            yield unknown == self.names.number(level, getattr(resource, level))

    def assigned_circumstances(self, request: AccessRequest) -> Iterator[Any]:
        """Yield the formulas by which all other unknowns have the values of a request.

        They cover only names that already have a number; number the names of the resources first.
        """
        principal, context = request.principal, request.context
        for role, has in self.roles.items():
            yield has == (role in principal.roles)
        yield z3.Bool("principal.active") == principal.active
        yield z3.Int("principal") == self.names.number("Staff", principal.id)
        yield from self._scope(self.scopes["principal"], principal.scope)
        for model in self.names.all("String"):
            number = self.names.number("String", model)
            yield self.trained(number) == (model in principal.trainings)
            if model in principal.trainings:
                yield self.expiry(number) == principal.trainings[model]
        yield z3.Int("context.now_ms") == context.now_ms
        yield z3.Int("context.purpose") == self.names.number("Purpose", context.purpose)
        yield from self._token_and_approval(request)

    def _token_and_approval(self, request: AccessRequest) -> Iterator[Any]:
        token, approval = request.context.token, request.context.approval
        yield self.present["token"] == (token is not None)
        yield self.present["approval"] == (approval is not None)
        if token is not None:
            yield z3.Int("context.token.expires_ms") == token.expires_ms
            yield from self._scope(self.scopes["context.token"], token.scope)
            for name, has in self.token_actions.items():
                yield has == (name in token.actions)
        if approval is not None:
            yield z3.Int("context.approval.by") == self.names.number("Staff", approval.by)
            yield z3.Int("context.approval.expires_ms") == approval.expires_ms

    def _scope(self, unknown: LocationSet, scope: frozenset[str]) -> Iterator[Any]:
        yield unknown.everywhere == (EVERYWHERE in scope)
        for level in LEVELS:
            for name in self.names.all(level):
                yield unknown.levels[level](self.names.number(level, name)) == (f"{level}/{name}" in scope)
