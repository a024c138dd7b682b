"""The simplest request that the solver finds to contradict a theorem, described in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import z3

from datacenter.access.decision import Decision
from datacenter.access.explain import when
from datacenter.access.proof.smt import LocationSet, SymbolicRequest
from datacenter.access.request import (
    AccessRequest,
    ApiToken,
    Approval,
    Principal,
    RequestContext,
    Resource,
)
from datacenter.access.vocabulary import ACTIONS, CLOSURES, EVERYWHERE, KINDS, LEVELS, PURPOSES, ROLES

_NOW_MS: Final = 1_790_000_000_000
_DAY_MS: Final = 86_400_000


def simplest(solver: z3.Solver, symbolic: SymbolicRequest) -> AccessRequest:
    """Return a request that meets the solver's formulas, which must be satisfiable."""
    accepted: list[Any] = []
    for preference in _preferences(symbolic):
        if solver.check(*accepted, preference) == z3.sat:
            accepted.append(preference)
    assert solver.check(*accepted) == z3.sat, "callers check first"
    return request_of(solver.model(), symbolic)


def _preferences(symbolic: SymbolicRequest) -> Iterator[Any]:
    """Yield formulas that make a request simple, the most important first."""
    now = z3.Int("context.now_ms")
    yield now == _NOW_MS
    yield from (z3.Not(has) for has in symbolic.present.values())
    yield z3.Bool("principal.active")
    yield z3.Sum([z3.If(has, 1, 0) for has in symbolic.roles.values()]) <= 1
    yield from (z3.Not(has) for has in symbolic.roles.values())
    for scope in symbolic.scopes.values():
        yield z3.Not(scope.everywhere)
        yield from (z3.Not(scope.levels[level](symbolic.levels[level])) for level in ("site", "region"))
    model = z3.Int("resource.model")
    yield symbolic.trained(model)
    yield z3.Or(symbolic.expiry(model) == _NOW_MS - _DAY_MS, symbolic.expiry(model) == _NOW_MS + _DAY_MS)
    for until in ("context.token.expires_ms", "context.approval.expires_ms"):
        yield z3.Int(until) == _NOW_MS + _DAY_MS
    yield from (z3.Not(has) for has in symbolic.token_actions.values())
    others = [name for name, kind in KINDS[symbolic.pair[1]].items() if kind == "Staff"]
    yield from (z3.Int(f"resource.{name}") != z3.Int("principal") for name in others)


def request_of(model: z3.ModelRef, symbolic: SymbolicRequest) -> AccessRequest:
    """Return the request of a solver's model."""
    names, (action, kind) = symbolic.names, symbolic.pair

    def number(unknown: Any) -> int:
        return int(model.eval(unknown, model_completion=True).as_long())

    def true(formula: Any) -> bool:
        return bool(z3.is_true(model.eval(formula, model_completion=True)))

    def name(of: str, unknown: Any) -> str:
        return names.name(of, number(unknown))

    def scope(of: LocationSet) -> frozenset[str]:
        locations = {EVERYWHERE} if true(of.everywhere) else set()
        for level, inside in of.levels.items():
            numbers = {
                number(symbolic.levels[level]),
                *(names.number(level, known) for known in names.all(level)),
            }
            locations |= {f"{level}/{names.name(level, each)}" for each in numbers if true(inside(each))}
        return frozenset(locations)

    levels = {level: name(level, symbolic.levels[level]) for level in LEVELS}
    attributes = {key: name(of, z3.Int(f"resource.{key}")) for key, of in KINDS[kind].items()}
    models = {*names.all("String"), *([attributes["model"]] if "model" in attributes else [])}
    numbers = {each: names.number("String", each) for each in names.all("String")}
    if "model" in attributes:
        numbers[attributes["model"]] = number(z3.Int("resource.model"))
    trainings = {
        each: number(symbolic.expiry(numbers[each]))
        for each in models
        if true(symbolic.trained(numbers[each]))
    }
    principal = Principal(
        name("Staff", z3.Int("principal")),
        frozenset(role for role in ROLES if true(symbolic.roles[role])),
        scope(symbolic.scopes["principal"]),
        trainings,
        true(z3.Bool("principal.active")),
    )
    token = ApiToken(
        "token",
        frozenset(each for each, has in symbolic.token_actions.items() if true(has)),
        scope(symbolic.scopes["context.token"]),
        number(z3.Int("context.token.expires_ms")),
    )
    approval = Approval(
        name("Staff", z3.Int("context.approval.by")), number(z3.Int("context.approval.expires_ms"))
    )
    context = RequestContext(
        number(z3.Int("context.now_ms")),
        PURPOSES[number(z3.Int("context.purpose"))],
        token if true(symbolic.present["token"]) else None,
        approval if true(symbolic.present["approval"]) else None,
    )
    resource = Resource(kind, name(kind, z3.Int("resource")), **levels, **attributes)
    return AccessRequest(principal, action, resource, context)


def without(request: AccessRequest, attribute: str) -> AccessRequest:
    """Return the request without an optional attribute of its context."""
    context = request.context
    reduced = replace(context, token=None) if attribute == "token" else replace(context, approval=None)
    return replace(request, context=reduced)


def describe(decision: Decision) -> str:
    """Describe a request, and the policy that decides it, in words."""
    request = decision.request
    resource, context = request.resource, request.context
    parts = [
        f"{_principal(request)} may {'' if decision.permitted else 'not '}{ACTIONS[request.action].text}"
        f" {resource.kind} {_resource(resource)}",
        f"for the purpose {context.purpose}, at {when(context.now_ms)}",
    ]
    if context.token is not None:
        actions = (
            ", ".join(sorted(context.token.actions & CLOSURES[request.action])) or "no action of this kind"
        )
        until = when(context.token.expires_ms)
        parts.append(
            f"with an API token for {actions} in {_several(context.token.scope)}, valid until {until}"
        )
    if context.approval is not None:
        parts.append(f"approved by {context.approval.by} until {when(context.approval.expires_ms)}")
    return ", ".join(parts) + f": {decision.reason}"


def _principal(request: AccessRequest) -> str:
    principal = request.principal
    training = ""
    if request.resource.model:
        expiry = principal.trainings.get(request.resource.model)
        state = "valid until" if expiry is not None and request.context.now_ms < expiry else "expired"
        training = ", no training" if expiry is None else f", training {state} {when(expiry)}"
    active = "" if principal.active else ", not active"
    return f"{principal.id} (roles {_several(principal.roles)}; scope {_several(principal.scope)}{training}{active})"


def _resource(resource: Resource) -> str:
    attributes = [*resource.locations[:-1]]
    attributes += [f"{name} {getattr(resource, name)}" for name in KINDS[resource.kind]]
    return f"{resource.id} ({', '.join(attributes)})"


def _several(names: frozenset[str] | frozenset[Any]) -> str:
    return ", ".join(sorted(names)) or "none"
