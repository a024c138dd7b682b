"""Explains in words why a request is refused: which conditions hold, and which are missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from datacenter.access.language.evaluation import holds, members_of, value_of
from datacenter.access.language.expression import (
    Condition,
    Conjunction,
    Constant,
    ConstantSet,
    Contains,
    Disjunction,
    Negation,
    Operand,
    Present,
    Reference,
    Relation,
    Trained,
    TrainingExpiry,
    Within,
    specialize,
    type_of,
)
from datacenter.access.language.policy import AccessPolicy, Applicable
from datacenter.access.request import AccessRequest
from datacenter.access.vocabulary import ACTIONS

_OPPOSITE: Final = {"==": "is not", "<": "is not less than", "<=": "is greater than"}
_PHRASES: Final = {
    "principal": "the staff",
    "resource": "the resource",
    "principal.scope": "the scope of the staff",
    "resource.model": "the model",
    "resource.severity": "the severity",
    "resource.requester": "the requester",
    "resource.staff": "the staff of the resource",
    "resource.change": "the change",
    "context.now_ms": "the time",
    "context.purpose": "the purpose",
    "context.token.actions": "the actions of the API token",
    "context.token.scope": "the scope of the API token",
    "context.token.expires_ms": "the expiry of the API token",
    "context.approval.by": "the approving person",
    "context.approval.expires_ms": "the expiry of the approval",
}
_SIGN: Final = {"==": "is", "<": "is less than", "<=": "is at most"}


def explain_forbid(request: AccessRequest, policy: AccessPolicy) -> str:
    """Explain why a policy forbids the request."""
    condition = specialize(policy.condition, request.action, request.resource.kind)
    return _sentence(
        f"forbidden by policy {policy.id}: {policy.reason}", list(_facts(condition, True, request))
    )


def explain_default(request: AccessRequest, applicable: Applicable) -> str:
    """Explain what the request lacks for the policy that permits it with the fewest additional conditions."""
    who, what = request.principal.id, request.action
    if not request.principal.roles:
        return f"no policy permits {what}: {who} has no role"
    lacking = [list(_facts(condition, False, request)) for _, condition in applicable.permits]
    if not lacking:
        return f"no policy permits the action {what} on a resource of type {request.resource.kind} to anybody"
    return _sentence(
        f"no policy permits {who} to {ACTIONS[what].text} {_name(request)}", min(lacking, key=len)
    )


def _sentence(begin: str, facts: list[str]) -> str:
    return f"{begin}: {', and '.join(dict.fromkeys(facts))}" if facts else begin


def _name(request: AccessRequest) -> str:
    return f"{request.resource.kind} {request.resource.id}"


def _facts(condition: Condition, wanted: bool, request: AccessRequest) -> Iterator[str]:
    """Yield the facts by which a condition has the value `wanted`. A negated operand must have the opposite value."""
    match condition:
        case Negation(operand):
            yield from _facts(operand, not wanted, request)
        case Conjunction(parts) if wanted:
            for part in parts:
                yield from _facts(part, True, request)
        case Conjunction(parts):
            missing = [part for part in parts if not _safely(part, request)]
            for part in missing[:1] if _is_training(missing) else missing:
                yield from _facts(part, False, request)
        case Disjunction(parts) if wanted:
            yield from _facts(next(part for part in parts if holds(part, request)), True, request)
        case Disjunction(parts):
            for part in parts:
                yield from _facts(part, False, request)
        case Constant():
            pass
        case _:
            yield _fact(condition, wanted, request)


def _is_training(missing: list[Condition]) -> bool:
    return bool(missing) and isinstance(missing[0], Trained)


def _safely(condition: Condition, request: AccessRequest) -> bool:
    """Evaluate a later part of a conjunction, which may rely on earlier parts that do not hold."""
    try:
        return holds(condition, request)
    except (KeyError, AttributeError):
        return True


def _fact(atom: Condition, value: bool, request: AccessRequest) -> str:
    """Describe in words whether an atom holds."""
    no = "" if value else "no "
    match atom:
        case Trained(model):
            return f"{no}training for {value_of(model, request) or 'an unknown model'}"
        case Relation("<" | "<=", Reference("context", ("now_ms",)), TrainingExpiry(model)):
            state = "valid until" if value else "expired"
            time = when(request.principal.trainings[value_of(model, request)])
            return f"{no}valid training for {value_of(model, request)}, {state} {time}"
        case Within(element, groups) if element.root == "principal":
            return f"{request.principal.id} {_roles(sorted(map(str, members_of(groups, request))), value)}"
        case Within(_, groups):
            location = ", ".join(request.resource.locations[:-1]) or "not at a single location"
            return f"{_name(request)} ({location}) is {'in' if value else 'outside of'} {_shown(groups, request)}"
        case Present(reference):
            name = reference.names[-1]
            return f"there is {('an' if name[0] in 'aeiou' else 'a') if value else 'no'} {name}"
        case Contains(collection, item):
            inside = "contains" if value else "does not contain"
            return f"{_shown(collection, request)} {inside} {_shown(item, request)}"
        case Relation(sign, left, right):
            return f"{_shown(left, request)} {(_SIGN if value else _OPPOSITE)[sign]} {_shown(right, request)}"
        case Reference():
            return f"{atom} is {str(value).lower()}"
    raise AssertionError(atom)


def _roles(names: list[str], value: bool) -> str:
    if len(names) == 1:
        return f"{'has' if value else 'lacks'} the role {names[0]}"
    return f"has {'one' if value else 'none'} of the roles {', '.join(names)}"


def _shown(operand: Operand | Reference | ConstantSet, request: AccessRequest) -> str:
    if isinstance(operand, ConstantSet):
        return ", ".join(str(item.value) for item in operand.items)
    value = value_of(operand, request)
    if isinstance(operand, Constant):
        return str(value)
    if isinstance(value, frozenset):
        value = ", ".join(sorted(map(str, value))) or "empty"
    name = (
        _PHRASES.get(str(operand), str(operand))
        if isinstance(operand, Reference)
        else "the expiry of the training"
    )
    shown = when(value) if type_of(operand) == "Long" else value
    return f"{name} ({shown})"


def when(time_ms: int) -> str:
    """Format a time: a date if it is midnight, in UTC."""
    try:
        time = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms since 1970"
    if time_ms % 86_400_000 == 0:
        return f"{time:%Y-%m-%d}"
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
