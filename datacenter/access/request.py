"""The request that a decision is about: principal, action, resource and context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from datacenter.access.vocabulary import EVERYWHERE, LEVELS, Purpose, Role, location


@dataclass(frozen=True)
class Principal:
    """A member of the staff. `trainings` has for each instrument model the time at which the training expires."""

    id: str
    roles: frozenset[Role] = frozenset()
    scope: frozenset[str] = frozenset()
    trainings: Mapping[str, int] = field(default_factory=dict)
    active: bool = True


@dataclass(frozen=True)
class Resource:
    """The resource of an action. Attributes that its type does not have are empty."""

    kind: str
    id: str
    site: str = ""
    country: str = ""
    region: str = ""
    model: str = ""
    severity: str = ""
    requester: str = ""
    staff: str = ""
    change: str = ""

    @cached_property
    def locations(self) -> tuple[str, ...]:
        """The locations that the resource is in, the smallest first."""
        names = ((level, getattr(self, level)) for level in LEVELS)
        return (*(location(level, name) for level, name in names if name), EVERYWHERE)


@dataclass(frozen=True, slots=True)
class ApiToken:
    """The limits of an API token: actions or groups of actions, locations, and the time at which it expires."""

    id: str
    actions: frozenset[str]
    scope: frozenset[str]
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Approval:
    """The approval of a change by a second person; `datacenter.access.four_eyes` makes and checks it."""

    by: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The circumstances of a request. With `token` it comes from a program that has this API token."""

    now_ms: int
    purpose: Purpose
    token: ApiToken | None = None
    approval: Approval | None = None


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """A request of a principal for an action on a resource."""

    principal: Principal
    action: str
    resource: Resource
    context: RequestContext
