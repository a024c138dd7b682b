"""Decisions by policies that are compiled to Python: one function for each action and resource type.

The function returns the position of the policy that decides, in a list with the `forbid` policies first; -1 if none
applies. Literals of policies are passed to it as values of its namespace, never as text, so that no name can become
code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from datacenter.access.decision import Decision
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
from datacenter.access.language.policy import Applicable, Pair, PolicySet
from datacenter.access.request import AccessRequest, Principal, RequestContext, Resource

DecideFunction: TypeAlias = Callable[[Principal, Resource, RequestContext], int]
_VARIABLES: Final = {"principal": "p", "resource": "r", "context": "c"}


class CompiledPolicies:
    """Decides requests by a set of policies."""

    def __init__(self, policies: PolicySet) -> None:
        self.policies = policies
        self._functions: dict[Pair, tuple[DecideFunction, Applicable]] = {
            pair: (_compile(applicable), applicable) for pair, applicable in policies.applicable.items()
        }

    def decide(self, request: AccessRequest) -> Decision:
        """Decide a request.

        An unknown action, or an action that does not apply to this type of resources, is refused.
        """
        function = self._functions.get((request.action, request.resource.kind))
        if function is None:
            return Decision(request, False, None, None)
        decide, applicable = function
        number = decide(request.principal, request.resource, request.context)
        if number < 0:
            return Decision(request, False, None, applicable)
        forbids = applicable.forbids
        if number < len(forbids):
            return Decision(request, False, forbids[number][0], applicable)
        return Decision(request, True, applicable.permits[number - len(forbids)][0], applicable)


def _compile(applicable: Applicable) -> DecideFunction:
    constants: dict[str, Any] = {}
    lines = [
        f" if {_text(condition, constants)}: return {number}"
        for number, (_, condition) in enumerate((*applicable.forbids, *applicable.permits))
    ]
    source = "\n".join(["def decide(p, r, c):", *lines, " return -1"])
    namespace: dict[str, Any] = constants
    exec(compile(source, "<policies>", "exec"), namespace)  # noqa: S102 - the text has no literal of a policy
    decide: DecideFunction = namespace["decide"]
    return decide


def _text(condition: Condition, constants: dict[str, Any]) -> str:
    match condition:
        case Constant(value):
            return str(bool(value))
        case Reference():
            return _operand(condition, constants)
        case Negation(operand):
            return f"(not {_text(operand, constants)})"
        case Conjunction(parts):
            return f"({' and '.join(_text(part, constants) for part in parts)})"
        case Disjunction(parts):
            return f"({' or '.join(_text(part, constants) for part in parts)})"
        case Relation(sign, left, right):
            return f"({_operand(left, constants)} {sign} {_operand(right, constants)})"
        case Trained(model):
            return f"({_operand(model, constants)} in p.trainings)"
        case Contains(collection, item):
            return f"({_operand(item, constants)} in {_set(collection, constants)})"
        case Within(element, groups):
            own = "p.roles" if element.root == "principal" else "r.locations"
            return f"(not {_set(groups, constants)}.isdisjoint({own}))"
        case Present(reference):
            return f"({_operand(reference, constants)} is not None)"
        case HasType():
            raise AssertionError("`specialize` decides the type of the resource")


def _operand(operand: Operand, constants: dict[str, Any]) -> str:
    match operand:
        case Constant(value):
            return _name(value, constants)
        case TrainingExpiry(model):
            return f"p.trainings[{_operand(model, constants)}]"
        case Reference(root, names):
            return ".".join((_VARIABLES[root], *(names or ("id",))))


def _set(collection: Reference | ConstantSet, constants: dict[str, Any]) -> str:
    if isinstance(collection, ConstantSet):
        return _name(frozenset(item.value for item in collection.items), constants)
    return _operand(collection, constants)


def _name(value: object, constants: dict[str, Any]) -> str:
    """Return the name of a literal in the function's namespace."""
    name = f"k{len(constants)}"
    constants[name] = value
    return name
