"""The conditions of policies as a typed tree, which all uses of a policy share.

The tree covers the part of Cedar that can be decided, translated to SQL and proven. Values are integers, strings and
names of entities; a name is a string together with its entity type. Conditions of checked policies never fail: the
reference engine proves from the schema that attributes exist where they are used, and there is no arithmetic that
could overflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from datacenter.access.vocabulary import CLOSURES, KINDS

Root: TypeAlias = Literal["principal", "action", "resource", "context"]


class ConditionTypeError(Exception):
    """A condition uses an attribute that the resource type lacks. The message says how to correct it."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal: a truth value, an integer, a string, or the name of an entity."""

    value: bool | int | str
    type: str


@dataclass(frozen=True, slots=True)
class ConstantSet:
    """A set of literals."""

    items: tuple[Constant, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """A variable, or an attribute of it: `context.token.expires_ms`."""

    root: Root
    names: tuple[str, ...]
    type: str

    def __str__(self) -> str:
        return ".".join((self.root, *self.names))


@dataclass(frozen=True, slots=True)
class TrainingExpiry:
    """The time at which the principal's training for a model expires: `principal.getTag(model)`."""

    model: Operand


@dataclass(frozen=True, slots=True)
class Negation:
    """True if the operand is false."""

    operand: Condition


@dataclass(frozen=True, slots=True)
class Conjunction:
    """True if all parts are true."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Disjunction:
    """True if at least one part is true."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A comparison of two operands."""

    sign: Literal["==", "<", "<="]
    left: Operand
    right: Operand


@dataclass(frozen=True, slots=True)
class Within:
    """The principal has one of these roles, or the resource is in one of these locations."""

    element: Reference
    groups: Reference | ConstantSet


@dataclass(frozen=True, slots=True)
class Contains:
    """A set contains an item."""

    collection: Reference | ConstantSet
    item: Operand


@dataclass(frozen=True, slots=True)
class Present:
    """An optional attribute has a value."""

    reference: Reference


@dataclass(frozen=True, slots=True)
class Trained:
    """The principal has had the training for a model, which may have expired: `principal.hasTag(model)`."""

    model: Operand


@dataclass(frozen=True, slots=True)
class HasType:
    """The resource has this type."""

    kind: str


Operand: TypeAlias = Constant | Reference | TrainingExpiry
Condition: TypeAlias = (
    Constant
    | Reference
    | Negation
    | Conjunction
    | Disjunction
    | Relation
    | Within
    | Contains
    | Present
    | Trained
    | HasType
)

TRUE: Final = Constant(True, "Bool")
FALSE: Final = Constant(False, "Bool")
PRINCIPAL: Final = Reference("principal", (), "Staff")
RESOURCE: Final = Reference("resource", (), "Resource")
ACTION: Final = Reference("action", (), "Action")


def specialize(condition: Condition, action: str, kind: str) -> Condition:
    """Simplify a condition for one action and one type of resources. Raises: ConditionTypeError."""
    match condition:
        case Constant() | Trained():
            return condition
        case Reference():
            return _checked(condition, kind)
        case Negation(operand):
            return negate(specialize(operand, action, kind))
        case Conjunction(parts):
            return _join(parts, action, kind, FALSE)
        case Disjunction(parts):
            return _join(parts, action, kind, TRUE)
        case HasType(wanted):
            return Constant(wanted == kind, "Bool")
        case Present(reference):
            known = reference.root == "resource"
            return Constant(reference.names[0] in KINDS[kind], "Bool") if known else condition
        case Relation(sign, left, right):
            return _relation(sign, _operand(left, action, kind), _operand(right, action, kind))
        case Contains(collection, item):
            return _contains(collection, _operand(item, action, kind))
        case Within(element, groups):
            return _within(element, groups, action, kind)


def _join(parts: tuple[Condition, ...], action: str, kind: str, absorbing: Constant) -> Condition:
    """Simplify a conjunction (`absorbing` is FALSE) or a disjunction; later parts may rely on the earlier ones."""
    kept: list[Condition] = []
    for part in parts:
        simple = specialize(part, action, kind)
        if simple == absorbing:
            kept.append(absorbing)
            break
        if not isinstance(simple, Constant):
            kept.append(simple)
    if absorbing in kept:
        return absorbing
    return conjunction(kept) if absorbing == FALSE else disjunction(kept)


def conjunction(parts: list[Condition]) -> Condition:
    """Return the conjunction of conditions; nested ones are flattened."""
    flat = [p for part in parts for p in (part.parts if isinstance(part, Conjunction) else (part,))]
    return flat[0] if len(flat) == 1 else Conjunction(tuple(flat)) if flat else TRUE


def disjunction(parts: list[Condition]) -> Condition:
    """Return the disjunction of conditions; nested ones are flattened."""
    flat = [p for part in parts for p in (part.parts if isinstance(part, Disjunction) else (part,))]
    return flat[0] if len(flat) == 1 else Disjunction(tuple(flat)) if flat else FALSE


def negate(condition: Condition) -> Condition:
    """Return the opposite of a condition."""
    if isinstance(condition, Constant):
        return Constant(not condition.value, "Bool")
    return condition.operand if isinstance(condition, Negation) else Negation(condition)


def _operand(operand: Operand, action: str, kind: str) -> Operand:
    match operand:
        case Reference("action"):
            return Constant(action, "Action")
        case Reference("resource", ()):
            return Reference("resource", (), kind)
        case Reference():
            return _checked(operand, kind)
        case TrainingExpiry(model):
            return TrainingExpiry(_operand(model, action, kind))
    return operand


def _checked(reference: Reference, kind: str) -> Reference:
    if reference.root == "resource" and reference.names and reference.names[0] not in KINDS[kind]:
        having = ", ".join(name for name, attributes in KINDS.items() if reference.names[0] in attributes)
        raise ConditionTypeError(
            f"the resource may be of type {kind}, which has no attribute `{reference.names[0]}`;"
            f" limit the policy to {having}, as in `resource is {having.partition(',')[0]}`"
        )
    return reference


def _relation(sign: Literal["==", "<", "<="], left: Operand, right: Operand) -> Condition:
    if sign == "==" and type_of(left) != type_of(right):
        return FALSE  # entities of different types are never equal
    if isinstance(left, Constant) and isinstance(right, Constant):
        return Constant(compare(sign, left.value, right.value), "Bool")
    return Relation(sign, left, right)


def compare(sign: str, left: bool | int | str, right: bool | int | str) -> bool:
    """Compare two values of one type; only integers have an order."""
    if sign == "==":
        return left == right
    assert isinstance(left, int) and isinstance(right, int), (
        "the schema permits comparisons of order only for integers"
    )
    return left < right if sign == "<" else left <= right


def type_of(operand: Operand) -> str:
    """Return the type of an operand."""
    return "Long" if isinstance(operand, TrainingExpiry) else operand.type


def _contains(collection: Reference | ConstantSet, item: Operand) -> Condition:
    if isinstance(collection, ConstantSet):
        return disjunction(
            [part for part in (_relation("==", item, member) for member in collection.items) if part != FALSE]
        )
    return Contains(collection, item)


def _within(element: Reference, groups: Reference | ConstantSet, action: str, kind: str) -> Condition:
    if element.root == "action":
        if isinstance(groups, ConstantSet):
            return Constant(any(group.value in CLOSURES[action] for group in groups.items), "Bool")
        return disjunction([Contains(groups, Constant(name, "Action")) for name in sorted(CLOSURES[action])])
    own = _operand(element, action, kind)
    assert isinstance(own, Reference)
    if isinstance(groups, Reference):
        return Within(own, groups)
    parents = "Role" if element.root == "principal" else "Location"
    above = tuple(group for group in groups.items if group.type == parents)
    within: list[Condition] = [Within(own, ConstantSet(above))] if above else []
    same = [_relation("==", own, group) for group in groups.items if group.type == own.type]
    return disjunction([*within, *same])


def atoms(condition: Condition) -> Iterator[Condition]:
    """Yield the parts of a condition that are neither conjunctions nor disjunctions nor negations."""
    match condition:
        case Negation(operand):
            yield from atoms(operand)
        case Conjunction(parts) | Disjunction(parts):
            for part in parts:
                yield from atoms(part)
        case _:
            yield condition
