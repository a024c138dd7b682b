"""Decisions by the reference implementation of Cedar, from the same policy text and equivalent entities."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import cedarpy

from datacenter.access.language.policy import PolicySet
from datacenter.access.request import AccessRequest, Principal, RequestContext, Resource
from datacenter.access.vocabulary import ACTIONS, EVERYWHERE, GROUPS, KINDS, SCHEMA

_ENTITY_TYPES = {"severity": "Severity", "requester": "Staff", "staff": "Staff", "change": "Action"}


def decisions(policies: PolicySet, requests: Sequence[AccessRequest]) -> list[tuple[bool, frozenset[str]]]:
    """Return for each request whether it is permitted, and the ids of the policies that determine the decision.

    Staff, resources and locations with the same name must be equal in all requests.
    """
    entities = {str(entity["uid"]): entity for entity in _ACTIONS}
    unique = {
        (request.principal.id, request.resource.kind, request.resource.id): request for request in requests
    }
    for request in unique.values():
        for entity in entities_of(request):
            assert entities.setdefault(str(entity["uid"]), entity) == entity, "two entities with one name"
    results = cedarpy.is_authorized_batch(
        list(map(_request, requests)),
        cedarpy.PolicySet.from_str(policies.text),
        cedarpy.Entities.from_json_str(json.dumps(list(entities.values())), _SCHEMA),
    )
    for result in results:
        assert not result.diagnostics.errors, result.diagnostics.errors
    return [
        (result.allowed, frozenset(result.diagnostics.id_annotations_by_reason.values()))
        for result in results
    ]


_SCHEMA = cedarpy.Schema.from_str(SCHEMA)


def _uid(kind: str, name: str) -> dict[str, Any]:
    return {"type": kind, "id": name}


def _reference(kind: str, name: str) -> dict[str, Any]:
    return {"__entity": _uid(kind, name)}


def entities_of(request: AccessRequest) -> Iterable[dict[str, Any]]:
    """Yield the entities of a request as Cedar JSON: staff, resource, and the hierarchy of locations."""
    yield _principal(request.principal)
    resource = request.resource
    yield _resource(resource)
    above = [EVERYWHERE, *reversed(resource.locations[:-1])]  # the hierarchy from the top
    for parent, name in zip(["", *above], above, strict=False):
        yield {
            "uid": _uid("Location", name),
            "attrs": {},
            "parents": [_uid("Location", parent)] if parent else [],
        }


def _actions() -> Iterable[dict[str, Any]]:
    for name in GROUPS:
        yield {"uid": _uid("Action", name), "attrs": {}, "parents": []}
    for name, action in ACTIONS.items():
        yield {
            "uid": _uid("Action", name),
            "attrs": {},
            "parents": [_uid("Action", g) for g in action.groups],
        }


_ACTIONS = list(_actions())


def _principal(principal: Principal) -> dict[str, Any]:
    return {
        "uid": _uid("Staff", principal.id),
        "attrs": {
            "active": principal.active,
            "scope": [_reference("Location", name) for name in sorted(principal.scope)],
        },
        "parents": [_uid("Role", role) for role in sorted(principal.roles)],
        "tags": dict(principal.trainings),
    }


def _resource(resource: Resource) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for name in KINDS[resource.kind]:
        value = getattr(resource, name)
        attributes[name] = _reference(_ENTITY_TYPES[name], value) if name in _ENTITY_TYPES else value
    return {
        "uid": _uid(resource.kind, resource.id),
        "attrs": attributes,
        "parents": [_uid("Location", resource.locations[0])],
    }


def _request(request: AccessRequest) -> dict[str, Any]:
    return {
        "principal": _uid("Staff", request.principal.id),
        "action": _uid("Action", request.action),
        "resource": _uid(request.resource.kind, request.resource.id),
        "context": _context(request.context),
    }


def _context(context: RequestContext) -> dict[str, Any]:
    attributes: dict[str, Any] = {"now_ms": context.now_ms, "purpose": _reference("Purpose", context.purpose)}
    if context.token is not None:
        attributes["token"] = {
            "actions": [_reference("Action", name) for name in sorted(context.token.actions)],
            "scope": [_reference("Location", name) for name in sorted(context.token.scope)],
            "expires_ms": context.token.expires_ms,
        }
    if context.approval is not None:
        attributes["approval"] = {
            "by": _reference("Staff", context.approval.by),
            "expires_ms": context.approval.expires_ms,
        }
    return attributes
