"""Evaluates conditions of policies for one request, step by step. `datacenter.access.compiled` is faster."""

from __future__ import annotations

from typing import Any

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
    compare,
)
from datacenter.access.request import AccessRequest


def holds(condition: Condition, request: AccessRequest) -> bool:
    """Evaluate a condition that has been specialized for the action and the resource type of a request."""
    match condition:
        case Constant(value):
            return bool(value)
        case Reference():
            return bool(value_of(condition, request))
        case Negation(operand):
            return not holds(operand, request)
        case Conjunction(parts):
            return all(holds(part, request) for part in parts)
        case Disjunction(parts):
            return any(holds(part, request) for part in parts)
        case Relation(sign, left, right):
            return compare(sign, value_of(left, request), value_of(right, request))
        case Trained(model):
            return value_of(model, request) in request.principal.trainings
        case Contains(collection, item):
            return value_of(item, request) in members_of(collection, request)
        case Within(element, groups):
            principal = element.root == "principal"
            own = request.principal.roles if principal else request.resource.locations
            return not members_of(groups, request).isdisjoint(own)
        case Present(reference):
            return value_of(reference, request) is not None
        case HasType():
            raise AssertionError("`specialize` decides the type of the resource")


def value_of(operand: Operand, request: AccessRequest) -> Any:
    """Return the value of an operand; the names of entities are strings."""
    match operand:
        case Constant(value):
            return value
        case TrainingExpiry(model):
            return request.principal.trainings[value_of(model, request)]
        case Reference(root, names):
            current: Any = getattr(request, root)
            for name in names or ("id",):
                current = getattr(current, name)
            return current


def members_of(collection: Reference | ConstantSet, request: AccessRequest) -> frozenset[Any]:
    """Return the members of a set."""
    if isinstance(collection, ConstantSet):
        return frozenset(item.value for item in collection.items)
    members: frozenset[Any] = value_of(collection, request)
    return members
