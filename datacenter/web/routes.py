"""The route table: one row for each page, form and data file, from which routing and access checks follow.

A row with a `kind` is about one resource, which the path names. The staff member must be permitted to view it;
otherwise the response is the same as for a nonexistent resource. The staff member must also be permitted to do
`action`. A row without a kind is a list, whose query returns only the permitted resources (`Visibility.where`).
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.control import AccessRules, CallerDecider
from datacenter.access.decision import Decision
from datacenter.access.directory import StaffDirectory, StaffPerson
from datacenter.access.request import AccessRequest, Resource
from datacenter.access.vocabulary import ACTIONS, Purpose
from datacenter.audit.access_log import AccessLog
from datacenter.audit.reading import ChainVerifier
from datacenter.commands.desk import SentFile
from datacenter.enrolment.listing import find_requester
from datacenter.evaluation.knowledge import NO_KNOWLEDGE, TriggerKnowledge
from datacenter.explanation.sides import ComparedSides, compared_sides
from datacenter.explanation.triggers import find_trigger
from datacenter.fleet.visible import (
    Visibility,
    find_alert,
    find_box,
    find_command,
    find_instrument,
    find_rollout,
    find_site,
)
from datacenter.maintenance.windows import find_subject_of
from datacenter.releases.folder import ReleaseFolder
from datacenter.sessions.listing import find_session
from datacenter.sessions.remote import RemoteSessions
from datacenter.sign_on.claims import ClaimError, person_of
from datacenter.sign_on.sign_on import SignOn
from datacenter.store.store import Store
from datacenter.web.sessions import COOKIE, StaffSession, StaffSessions

Run: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a function with database calls: on a thread in the program, directly in a simulation."""
Handler: TypeAlias = "Callable[[PageRequest], Response]"
REFRESHED: Final = ("div#results", "div#state")
"""Elements that pages refresh by themselves. Their requests do not extend the session, so that a person who only
leaves a page open counts as idle. An open viewer of a desktop extends the session.
"""
ResponseKind: TypeAlias = Literal["page", "json", "file", "form", "api"]


def wants_fragment(headers: Mapping[str, str]) -> bool:
    """Return whether htmx requests only the part of the page that changes."""
    return headers.get("hx-request-type") == "partial"


class NoParameters(Struct, frozen=True):
    """A page without parameters."""


class NotFoundError(LookupError):
    """The resource in the path does not exist, or the staff member may not view it; both have the same response."""


class RefusedError(PermissionError):
    """The staff member may view the resource, but not do the action; the text is the reason of the decision."""


class ConflictError(Exception):
    """The state of the resource does not permit the action; the text says why."""


@dataclass(frozen=True)
class WebServices:
    """The dependencies of handlers. Access to a resource is recorded in `log` before its handler is called."""

    store: Store
    rules: Callable[[], AccessRules]
    sessions: StaffSessions
    now_ms: Callable[[], int]
    read: Run
    write: Run
    log: AccessLog
    development: bool = False
    sign_on: SignOn | None = None
    trigger_knowledge: TriggerKnowledge = NO_KNOWLEDGE
    """The triggers in force with their scores."""
    remote: RemoteSessions | None = None
    """The remote sessions; None if they are not configured."""
    releases: ReleaseFolder | None = None
    """The signed releases; None if they are not configured."""
    comparisons: Mapping[str, Sequence[ComparedSides]] = field(init=False)
    """The comparisons in the condition of each trigger, by its name."""
    chain: ChainVerifier = field(init=False)
    sign_in_token: str = field(default_factory=lambda: secrets.token_hex(32))
    """The token of the sign-in form for development, which belongs to no session."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "chain", ChainVerifier(self.store))
        comparisons = {
            name: compared_sides(one) for name, one in self.trigger_knowledge.triggers.triggers.items()
        }
        object.__setattr__(self, "comparisons", comparisons)

    @property
    def policies(self) -> CompiledPolicies:
        """The policies in force."""
        return self.rules().policies

    @property
    def directory(self) -> StaffDirectory:
        """The staff directory in force."""
        return self.rules().directory

    def person(self, session: StaffSession | None) -> StaffPerson | None:
        """Return the signed-in person of a session; None if it has ended, or the person may no longer sign in."""
        if session is None:
            return None
        if session.claimed is None:
            return self.known_person(session.staff) if self.development else None
        if self.sign_on is None or session.settings != self.sign_on.settings.fingerprint:
            return None
        try:
            return person_of(session.claimed, self.directory.people)
        except ClaimError:
            return None

    def known_person(self, staff: str) -> StaffPerson | None:
        """Return a person of the staff directory; None if the person is unknown or not active."""
        known = self.directory.people.get(staff)
        return known if known and known.principal.active else None

    async def session(self, request: Request) -> StaffSession | None:
        """Return the session of a request's cookie; None without a valid one. Raises: StoreError.

        The request extends the session, unless a page has sent it by itself to refresh its content.
        """
        cookie, now_ms = request.cookies.get(COOKIE, ""), self.now_ms()
        if not cookie:
            return None
        current: StaffSession | None = await self.read(lambda: self.sessions.find(cookie, now_ms))
        if current and current.may_extend and request.headers.get("hx-source") not in REFRESHED:
            await self.write(lambda: self.sessions.extend(current, now_ms))
        return current


@dataclass(frozen=True)
class PageRequest:
    """A request of a signed-in member of the staff that has passed the access check."""

    services: WebServices
    staff: str
    entry: StaffPerson
    visible: Visibility
    form_token: str
    """The token for forms on the page; empty for a program."""
    resource: Resource | None
    """The resource that the path names; None for a list."""
    names: dict[str, str]
    """The parameters of the path."""
    query: Any
    """The parameters of the URL or form, as the row's type."""
    target: str
    """Path and query of the URL."""
    headers: dict[str, str] = field(default_factory=dict)
    file: SentFile | None = None
    """The file in the request."""
    find_person: Callable[[], StaffPerson | None] = lambda: None
    """Returns the person with the rights at the time of the call; None if the person may no longer sign in."""
    other_sign_in_ms: int | None = None
    """See `StaffSession.other_sign_in_ms`."""

    @property
    def store(self) -> Store:
        """The store that pages show."""
        return self.services.store

    @property
    def now_ms(self) -> int:
        """The time of the request."""
        return self.visible.now_ms

    @property
    def access(self) -> CallerDecider:
        """Decides and records the caller's actions on resources that the row does not name."""
        services, visible = self.services, self.visible
        return CallerDecider(services.rules(), services.log.decision, visible.principal, visible.token)

    @property
    def is_fragment(self) -> bool:
        """Whether htmx requests only the part of the page that changes."""
        return wants_fragment(self.headers)

    def permits(self, action: str, resource: Resource) -> bool:
        """Return whether the staff member may do the action, so that a page offers it; not recorded."""
        return self.visible.decide(action, resource).permitted


@dataclass(frozen=True)
class WebRoute:
    """A row of the route table; `text` describes it in the API's documentation.

    `purpose` applies to a person who opens the page; a program has the purpose of its API token.
    """

    method: Literal["GET", "POST"]
    path: str
    action: str
    kind: str
    handler: Handler
    text: str
    parameters: type[Struct] = NoParameters
    response_kind: ResponseKind = "page"
    purpose: Purpose = "monitoring"
    result: type[Struct] | None = None
    """The representation that a row of the API returns."""
    media: str = "application/json"
    """The media type of the response; a file has no `result`."""
    takes_file: bool = False
    """Whether the request can contain a file: as part of a form, or as the body of a request to the API."""
    has_key: bool = False
    """Whether a repeated request to the API is detected by its header Idempotency-Key."""
    statuses: tuple[int, ...] = ()
    """Status codes of a response of the API, in addition to those of all routes."""
    log: str = "log"
    """The records that a row of the kind "Audit" shows, as the audit log names them."""


_FIND: Final[dict[str, Callable[[Store, dict[str, str]], Resource | None]]] = {
    "Site": lambda store, names: find_site(store, names["site"]),
    "Box": lambda store, names: find_box(store, names["box"]),
    "Instrument": lambda store, names: find_instrument(store, names["box"], names["instrument"]),
    "Alert": lambda store, names: find_alert(store, names["alert"]),
    "Command": lambda store, names: find_command(store, names["command"]),
    "Rollout": lambda store, names: find_rollout(store, names["rollout"]),
    "Session": lambda store, names: find_session(store, names["session"]),
    "Enrolment": lambda store, names: find_requester(store, names["enrolment"]),
    "Maintenance": lambda store, names: find_subject_of(store, names["window"]),
}
"""Functions that find the resource of a path, by kind.

The resource of a maintenance window is its site, box or instrument; that of a certificate request is the box.
Triggers are not listed, because the resource of a trigger depends on the staff member.
"""


def check_access(
    route: WebRoute, services: WebServices, visible: Visibility, names: dict[str, str]
) -> Resource | None:
    """Record the access decision, and return the resource of a request; None for a list.

    Raises: NotFoundError, RefusedError; StoreError if the resource cannot be read or the decision cannot be recorded.
    """
    log, is_export = services.log, route.response_kind == "file"
    if not route.kind:
        path = f"{route.method} {route.path}"
        log.listing(visible.principal, visible.context, route.action, path, is_export=is_export)
        return None
    resource = _find(route, services, visible, names)
    if resource is None:
        log.decision(_refusal(route, visible, names, "the resource does not exist"))
        raise NotFoundError
    if resource.kind in ACTIONS["view"].kinds:
        seen = visible.decide("view", resource)
        if not seen.permitted:
            log.decision(seen)
            raise NotFoundError
    decision = visible.decide(route.action, resource)
    log.decision(decision, is_export=is_export)
    if not decision.permitted:
        raise RefusedError(decision.reason)
    return resource


def _find(
    route: WebRoute, services: WebServices, visible: Visibility, names: dict[str, str]
) -> Resource | None:
    if route.kind == "Audit":
        return Resource("Audit", route.log)
    if not all(map(str.isprintable, names.values())):
        return None
    if route.kind == "Trigger":
        return find_trigger(services.store, visible, services.trigger_knowledge, names["trigger"])
    return _FIND[route.kind](services.store, names)


def record_refusal(
    route: WebRoute, services: WebServices, visible: Visibility, names: dict[str, str], reason: str
) -> None:
    """Record that a request is refused before its resource is looked up. Raises: StoreError."""
    services.log.decision(_refusal(route, visible, names, reason))


def _refusal(route: WebRoute, visible: Visibility, names: dict[str, str], reason: str) -> Decision:
    resource = Resource(route.kind, "/".join(names.values()))
    request = AccessRequest(visible.principal, route.action, resource, visible.context)
    return Decision(request, False, None, None, reason)
