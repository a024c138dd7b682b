"""The staff's web application without a server: requests are ASGI calls, with cookies and forms as in a browser."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from starlette.responses import Response
from starlette.types import ASGIApp, Message

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.control import AccessRules
from datacenter.access.directory import StaffDirectory, StaffPerson
from datacenter.access.language.policyfile import read_policies
from datacenter.access.request import Principal
from datacenter.access.tokens import create_token
from datacenter.access.vocabulary import Purpose, Role
from datacenter.audit.access_log import AccessLog, Append
from datacenter.audit.chain import AuditEntry
from datacenter.evaluation.knowledge import NO_KNOWLEDGE, TriggerKnowledge
from datacenter.releases.folder import ReleaseFolder
from datacenter.sessions.remote import RemoteSessions
from datacenter.sign_on.sign_on import SignOn
from datacenter.store.store import Store
from datacenter.web.application import make_web
from datacenter.web.routes import WebServices
from datacenter.web.sessions import COOKIE, IDLE_MS, StaffSessions

POLICIES = CompiledPolicies(read_policies())
TRAININGS = {"chemistry-analyzer": 2**42}


def person(
    staff: str, name: str, zone: str, role: Role | None, scope: str, *, active: bool = True
) -> StaffPerson:
    roles: frozenset[Role] = frozenset({role} if role else ())
    trainings = TRAININGS if role in ("service-engineer", "application-specialist") else {}
    return StaffPerson(Principal(staff, roles, frozenset({scope}), trainings, active=active), name, zone)


PEOPLE = {
    one.principal.id: one
    for one in (
        person("engineer", "Service engineer", "Europe/Berlin", "service-engineer", "everywhere"),
        person("observer", "Observer", "America/New_York", "viewer", "everywhere"),
        person("european", "Engineer in Europe", "Europe/Lisbon", "service-engineer", "region/europe"),
        person("former", "Former engineer", "UTC", "service-engineer", "everywhere", active=False),
        person("auditor", "Auditor", "UTC", "auditor", "everywhere"),
        person("specialist", "Specialist", "UTC", "application-specialist", "everywhere"),
        person("supervisor", "Supervisor", "UTC", "supervisor", "everywhere"),
        person("newcomer", "Newcomer", "UTC", None, "everywhere"),
    )
}
STAFF = StaffDirectory({name: one.principal for name, one in PEOPLE.items()}, {}, PEOPLE)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    cookies: str = ""
    """The values of the `Set-Cookie` headers, one per line."""

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class WebClient:
    """A browser of one person, or a program with an API token if `secret` is set.

    `entries` are the audit entries that the application recorded.
    """

    application: ASGIApp
    sessions: StaffSessions
    now_ms: Callable[[], int]
    entries: list[AuditEntry] = field(default_factory=list)
    cookie: str = ""
    staff: str = ""
    store: Store | None = None
    secret: str = ""

    def sign_in(self, staff: str) -> WebClient:
        return self.with_session(staff, self.now_ms())

    def with_session(self, staff: str, begun_ms: int) -> WebClient:
        """Return a browser with a session of a person that began at `begun_ms`."""
        return replace(self, cookie=self.sessions.begin(staff, begun_ms), staff=staff, secret="")

    def program(self, purpose: Purpose = "monitoring", *actions: str, days: int = 30) -> WebClient:
        """Return a program with a new API token of this person, valid for `days` days."""
        assert self.store is not None, "opened by `open_web`"
        chosen, scope = frozenset(actions or ("read", "change")), frozenset({"everywhere"})
        end_ms = self.now_ms() + days * 86_400_000
        secret, _ = create_token(self.store, self.staff, purpose, chosen, scope, self.now_ms(), end_ms)
        return replace(self, cookie="", secret=secret)

    def form_token(self) -> str:
        session = self.sessions.find(self.cookie, self.now_ms())
        return session.form_token if session else ""

    def sign_in_form(self, staff: str, target: str = "/") -> dict[str, str]:
        """Return the fields of the sign-in form for development, with the page's form token."""
        token = re.search(r'name="form_token" value="(\w+)"', self.get("/sign-in").text)
        assert token is not None, "the page has no sign-in form for development"
        return {"form_token": token[1], "staff": staff, "next": target}

    def get(self, target: str, **headers: str) -> Answer:
        return self.request("GET", target, b"", headers)

    def post(self, target: str, form: Mapping[str, str] | None = None, **headers: str) -> Answer:
        fields = {"form_token": self.form_token()} if form is None else dict(form)
        given = {"content-type": "application/x-www-form-urlencoded", **headers}
        return self.request("POST", target, urlencode(fields).encode(), given)

    def post_json(self, target: str, body: bytes = b"", **headers: str) -> Answer:
        return self.request("POST", target, body, {"content-type": "application/json", **headers})

    def request(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        given = {"host": "127.0.0.1:8080", **{name.replace("_", "-"): text for name, text in headers.items()}}
        if self.cookie and "cookie" not in given:
            given["cookie"] = f"{COOKIE}={self.cookie}"
        if self.secret:
            given.setdefault("authorization", f"Bearer {self.secret}")
        return asyncio.run(_request(self.application, method, target, body, given))


async def _request(
    application: ASGIApp, method: str, target: str, body: bytes, headers: Mapping[str, str]
) -> Answer:
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": re.sub(r"%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), path)
        .encode("latin-1")
        .decode(),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), text.encode("latin-1")) for name, text in headers.items()],
        "server": ("127.0.0.1", 8080),
        "client": ("127.0.0.1", 50000),
    }
    sent: list[Message] = []
    incoming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not incoming:
            await asyncio.Event().wait()  # the client stays connected
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await application(scope, receive, send)
    start = next(one for one in sent if one["type"] == "http.response.start")
    content = b"".join(one.get("body", b"") for one in sent if one["type"] == "http.response.body")
    received = {name.decode("latin-1"): text.decode("latin-1") for name, text in start["headers"]}
    cookies = "\n".join(
        text.decode("latin-1") for name, text in start["headers"] if name.lower() == b"set-cookie"
    )
    return Answer(start["status"], received, content, cookies)


async def run_directly(function: Callable[[], Response]) -> Response:
    return function()


def open_web(
    store: Store,
    now_ms: Callable[[], int],
    *,
    staff: StaffDirectory = STAFF,
    development: bool = True,
    append: Append | None = None,
    sign_on: SignOn | None = None,
    known: TriggerKnowledge = NO_KNOWLEDGE,
    remote: RemoteSessions | None = None,
    releases: ReleaseFolder | None = None,
    idle_ms: int = IDLE_MS,
) -> WebClient:
    """Return a browser without a session, on a store."""
    sessions = StaffSessions(store, idle_ms=idle_ms)
    entries: list[AuditEntry] = []
    services = WebServices(
        store,
        lambda: AccessRules(POLICIES, staff),
        sessions,
        now_ms,
        run_directly,
        run_directly,
        AccessLog(append or entries.extend),
        development,
        sign_on,
        known,
        remote,
        releases,
    )
    return WebClient(make_web(services), sessions, now_ms, entries, store=store)
