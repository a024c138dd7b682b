"""Checks of access control over all routes: each yields its findings, by method and path of the route.

What a route must refuse follows from its method and path, not from its row in the route table, so that a wrong row is
detected. The checks iterate over the product's route table, so that a new route is checked without further changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random
from typing import Final, TypeAlias
from urllib.parse import urlencode

from sqlalchemy import create_engine, select

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.language.policyfile import read_policies
from datacenter.access.tokens import create_token, list_tokens, revoke_token
from datacenter.access.vocabulary import PAIRS, Purpose
from datacenter.store.store import Store
from datacenter.store.tables.schema import (
    alerts,
    box_papers,
    commands,
    denied_boxes,
    enrolments,
    maintenance,
    remote_sessions,
    rollouts,
    session_notes,
)
from datacenter.web.pages import ROUTES
from datacenter.web.routes import WebRoute
from datacenter.web.sessions import SESSION_MS
from tests.support.datacenter.access.cases import world
from tests.support.datacenter.access.formulas import proven
from tests.support.datacenter.access.lists import fill, selected
from tests.support.datacenter.web.client import Answer, WebClient, open_web
from tests.support.datacenter.web.fleet import COMMAND, DAY_MS, NOW_MS, WAITING_FILE, fill_fleet
from tests.support.datacenter.web.triggers import known_triggers

Names: TypeAlias = Mapping[str, str]
EUROPE: Final = {
    "site": "berlin-1",
    "box": "RAP-0001",
    "instrument": "CHEM-0001",
    "alert": "a-lamp",
    "command": "3",
    "trigger": "chemistry-lamp",
    "window": "m0",
    "session": f"{1:032x}",
    "rollout": "7001",
    "paper": "papers.json",
    "enrolment": "1e" * 32,
}
AMERICA: Final = {
    "site": "boston-1",
    "box": "RAP-0003",
    "instrument": "GAS-0001",
    "alert": "a-slot",
    "command": "2",
    "trigger": "gas-slot-heater",
    "window": "m1",
    "session": f"{2:032x}",
    "rollout": "7002",
    "paper": "papers.json",
    "enrolment": "2e" * 32,
}
UNKNOWN: Final = {
    "site": "boston-9",
    "box": "RAP-0009",
    "instrument": "GAS-0009",
    "alert": "a-slox",
    "command": "9",
    "trigger": "gas-slot-heatex",
    "window": "m9",
    "session": f"{9:032x}",
    "rollout": "7009",
    "paper": "papers.jsox",
    "enrolment": "9e" * 32,
}
"""Names that do not exist, as long as those of AMERICA, so that responses have equal lengths."""
HINTS: Final = ("CHEM-0001", "RAP-0001", "Klinikum", "berlin-1", "GAS-0001", "RAP-0003", "Harbor", "boston")
"""Texts that only the fleet's data contains: first those of Europe, then those of America."""
OF_EUROPE, OF_AMERICA = HINTS[:4], HINTS[4:]

NAMING: Final[dict[str, tuple[str, str]]] = {
    "site": (AMERICA["site"], UNKNOWN["site"]),
    "box": (AMERICA["box"], UNKNOWN["box"]),
    "instrument": (AMERICA["instrument"], UNKNOWN["instrument"]),
    "region": ("america", "amerigo"),
    "window": ("m1", "m9"),
    "trigger": (AMERICA["trigger"], UNKNOWN["trigger"]),
    "q": ("Harbor", "Harbox"),
    "place": ("region/america", "region/amerigo"),
    "boxes": (AMERICA["box"], UNKNOWN["box"]),
}
"""The parameters that can name a resource: the name of one in America, and an unknown name of the same length."""
NOT_NAMING: Final = {
    "page", "health", "view", "model", "severity", "state", "period", "since_ms", "until_ms", "limit",
    "cursor", "reading", "days", "hours", "reason", "verb", "purpose", "begins", "actor", "action", "outcome",
    "resource", "from_ms", "area", "key", "before", "after", "direction", "name",
    "mode", "port", "minutes", "ticket", "text", "staff", "waiting",
    "release", "models", "waves", "observe_hours", "answer_hours", "failures_percent", "failures_max", "ends",
    "may_fetch_slot", "kind", "clock",
}  # fmt: skip
"""All other parameters. `resource` filters the audit log, in which auditors see everything."""
AUDIT_NAMES: Final = {
    "/audit": "log",
    "/api/v1/audit": "log",
    "/audit.csv": "export of the log",
    "/audit/boxes": "records of boxes",
    "/audit/boxes.csv": "export of records of boxes",
    "/audit/boxes.jsonl": "export of records of boxes",
    "/audit/chains": "chains of boxes",
}
"""The resource that the audit log names for an access to each page of audit records."""


@dataclass(frozen=True)
class Walk:
    """A data center whose routes are checked, with a clock that checks can set."""

    web: WebClient
    store: Store
    time_ms: list[int]

    def later(self) -> None:
        """Advance the clock by a minute, so that no rate limit is reached."""
        self.time_ms[0] += 60_000

    def content(self) -> str:
        """Return the data that staff can change."""
        tables = (
            alerts,
            box_papers,
            commands,
            maintenance,
            remote_sessions,
            rollouts,
            session_notes,
            enrolments,
            denied_boxes,
        )
        return str([list(self.store.read(select(table))) for table in tables])

    def refusals(self, staff: str) -> int:
        """Return the number of a person's refused requests that are recorded with a reason."""
        return sum(
            one.outcome == "refused" and one.actor == staff and bool(one.reason) for one in self.web.entries
        )


Check: TypeAlias = Callable[[Walk], Iterator[str]]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Register a check."""
    CHECKS[function.__name__] = function
    return function


@contextmanager
def walking() -> Iterator[Walk]:
    """Give a data center with the fleet, without simulated reports."""
    store, time_ms = Store("sqlite://"), [NOW_MS]
    try:
        fill_fleet(store, with_reports=False)
        # the checks advance the clock beyond the usual idle timeout
        web = open_web(store, lambda: time_ms[0], known=known_triggers(), idle_ms=SESSION_MS)
        yield Walk(web, store, time_ms)
    finally:
        store.close()


def named(row: WebRoute) -> str:
    """Return the method and path of a route."""
    return f"{row.method} {row.path}"


def is_of_one(row: WebRoute) -> bool:
    """Return whether the path of the route names a resource."""
    return "{" in row.path


def is_audit(row: WebRoute) -> bool:
    """Return whether the route shows the audit log, which only auditors read."""
    return "/audit" in row.path


def is_for_viewers(row: WebRoute) -> bool:
    """Return whether a viewer may open the route: it changes nothing, and exports no data of an instrument."""
    is_export = is_of_one(row) and row.path.endswith((".csv", ".parquet", "{paper}"))
    is_desktop = row.path.endswith(("/desktop", "/recording"))
    return row.method == "GET" and not (is_export or is_download(row) or is_audit(row) or is_desktop)


def is_download(row: WebRoute) -> bool:
    """Return whether the route sends the file of a command."""
    return row.path.endswith("/file")


def is_api(row: WebRoute) -> bool:
    """Return whether the route is for programs."""
    return row.path.startswith("/api/")


def call(client: WebClient, row: WebRoute, names: Names, parameters: Names | None = None) -> Answer:
    """Call a route as its clients do. An exception in a handler gives status 500, as on the server."""
    try:
        return _call(client, row, names, parameters)
    except Exception as error:
        return Answer(500, {}, repr(error).encode())


def _call(client: WebClient, row: WebRoute, names: Names, parameters: Names | None) -> Answer:
    """Send the request: a form with its form token, or JSON with an API token."""
    path, given = row.path.format(**names), dict(parameters or {})
    if "reason" in row.parameters.__struct_fields__:
        given.setdefault("reason", "a test")
    for name in ("ticket", "text"):
        if name in row.parameters.__struct_fields__:
            given.setdefault(name, "a test")
    if row.method == "GET":
        return client.get(f"{path}?{urlencode(given)}" if given else path)
    if is_api(row):
        program = client if client.secret or not client.staff else client.program("service")
        if row.takes_file:
            kind = {"content-type": "application/octet-stream"}
            query = "?verb=help-file" if "verb" in row.parameters.__struct_fields__ else ""
            return program.request("POST", f"{path}{query}", b"a file", kind)
        if "verb" in row.parameters.__struct_fields__:
            given.setdefault("verb", "send-inventory")
        body = ("{" + ", ".join(f'"{name}": "{text}"' for name, text in given.items()) + "}").encode()
        return program.post_json(path, body)
    return client.post(path, {"form_token": client.form_token(), **given})


def differences(
    row: WebRoute, client: WebClient, foreign: Names, unknown: Names, path: bool
) -> Iterator[str]:
    """Compare the responses for foreign and unknown names; they may differ only in these names.

    `foreign` and `unknown` are parameters; with `path`, the names in the path differ, too.
    """
    given = (AMERICA, UNKNOWN) if path else (EUROPE, EUROPE)
    first, second = (call(client, row, *each) for each in zip(given, (foreign, unknown), strict=True))
    pairs = [(foreign[name], unknown[name]) for name in foreign]
    # a number as short as that of a command is also part of other texts
    pairs += [(AMERICA[name], UNKNOWN[name]) for name in AMERICA if path and name != "command"]
    if _unnamed(first, pairs) != _unnamed(second, pairs):
        changed = f" with {', '.join(foreign)}" if foreign else ""
        yield f"{named(row)}{changed}: {first.status} for a foreign name, {second.status} for an unknown name"
    if path and not first.status == second.status == 404:
        yield f"{named(row)}: {first.status} for a foreign name, not 404"


def _unnamed(answer: Answer, pairs: list[tuple[str, str]]) -> tuple[int, str, bytes]:
    headers, body = repr(sorted(answer.headers.items())), answer.body
    for foreign, unknown in pairs:
        headers, body = headers.replace(foreign, unknown), body.replace(foreign.encode(), unknown.encode())
    return answer.status, headers, body


@check
def every_route_needs_a_session(walk: Walk) -> Iterator[str]:
    """Requests without a valid session of an active person get 401 and no content."""
    web = walk.web
    signed_out = web.sign_in("engineer")
    signed_out.post("/sign-out")
    clients = {
        "without a session": web,
        "after signing out": signed_out,
        "for an inactive person": web.sign_in("former"),
        "for an unknown person": web.sign_in("nobody"),
        # last, because a new session deletes the expired ones
        "with an expired session": web.with_session("engineer", NOW_MS - SESSION_MS),
    }
    for row in ROUTES:
        for text, client in clients.items():
            path = row.path.format(**EUROPE)
            answer = client.get(path) if row.method == "GET" else _posted(client, row, path)
            hints = (hint.encode() for hint in HINTS if hint not in path)
            if answer.status != 401 or any(hint in answer.body for hint in hints):
                yield f"{named(row)}: {answer.status} {text}"


def _posted(client: WebClient, row: WebRoute, path: str) -> Answer:
    return client.post_json(path) if is_api(row) else client.post(path, {"form_token": ""})


@check
def something_foreign_looks_like_nothing(walk: Walk) -> Iterator[str]:
    """Names of resources that a person may not see get the same response as unknown names: path, query, form."""
    people = [walk.web.sign_in("european"), walk.web.sign_in("newcomer")]
    for row in ROUTES:
        for client in people:
            walk.later()
            if is_of_one(row):
                yield from differences(row, client, {}, {}, path=True)
                if is_api(row):
                    yield from differences(row, client.program(), {}, {}, path=True)
        fields = [name for name in row.parameters.__struct_fields__ if name in NAMING]
        for count in (1, len(fields)) if len(fields) > 1 else (len(fields),) if fields else ():
            for chosen in combinations(fields, count):
                foreign, unknown = ({name: NAMING[name][which] for name in chosen} for which in (0, 1))
                yield from differences(row, people[0], foreign, unknown, path=False)


@check
def an_instrument_is_found_at_its_own_box_alone(walk: Walk) -> Iterator[str]:
    """A path with a permitted box does not give access to an instrument of another box."""
    client = walk.web.sign_in("european")
    for row in ROUTES:
        if "{instrument}" in row.path:
            walk.later()
            answer = call(client, row, {**AMERICA, "box": EUROPE["box"]})
            if answer.status != 404:
                yield f"{named(row)}: {answer.status}"


@check
def answers_have_only_what_the_person_may_see(walk: Walk) -> Iterator[str]:
    """Pages, lists, counts, exports and the API show only the person's region, and nothing without a role."""
    everything = walk.web.sign_in("engineer")
    for row in ROUTES:
        if row.method != "GET" or is_audit(row):
            continue
        walk.later()
        has_all = row.path.endswith(("/alerts", "/v1/maintenance"))
        query = {"state": "all"} if has_all else {}
        seen = {
            staff: call(walk.web.sign_in(staff), row, EUROPE, query)
            for staff in ("engineer", "european", "newcomer")
        }
        hidden = {
            "engineer": (),
            "european": (*OF_AMERICA, "blood gas", "blood-gas"),
            "newcomer": () if is_of_one(row) else HINTS,
        }
        for staff, answer in seen.items():
            hints = (hint for hint in hidden[staff] if hint.encode() in answer.body)
            yield from (f"{named(row)}: {staff} sees {hint}" for hint in hints)
        if not is_of_one(row) and seen["european"].body == seen["engineer"].body:
            yield f"{named(row)}: the list of one region equals that of all regions"
    counts = [walk.web.sign_in(staff).get("/").text for staff in ("european", "newcomer")]
    for text, count in zip(counts, (3, 0), strict=True):
        if f'<span class="count">{count}</span> <span class="of">all</span>' not in text:
            yield "GET /: the count of instruments includes some that the person may not see"
    if "GAS-0001" not in everything.get("/commands").text:
        yield "GET /commands: the list lacks a command that the person may see"


@check
def every_right_is_required(walk: Walk) -> Iterator[str]:
    """A viewer can only read; only auditors read the audit log; refused requests have no effect."""
    viewer, engineer = walk.web.sign_in("observer"), walk.web.sign_in("engineer")
    before = walk.content()
    for row in ROUTES:
        walk.later()
        answer = call(viewer, row, EUROPE)
        if is_for_viewers(row) != (answer.status == 200) or (
            not is_for_viewers(row) and answer.status != 403
        ):
            yield f"{named(row)}: {answer.status} for a viewer"
        if is_audit(row) and (status := call(engineer, row, EUROPE).status) != 403:
            yield f"{named(row)}: {status} for an engineer"
        if walk.content() != before:
            yield f"{named(row)}: a viewer has changed something"
            before = walk.content()


@check
def every_refusal_is_recorded(walk: Walk) -> Iterator[str]:
    """Each refused request of a signed-in person is recorded in the audit log with a reason."""
    european, viewer = walk.web.sign_in("european"), walk.web.sign_in("observer")
    for row in ROUTES:
        walk.later()
        cases = [(european, AMERICA), (european, UNKNOWN)] if is_of_one(row) else []
        cases += [] if is_for_viewers(row) else [(viewer, EUROPE)]
        for client, names in cases:
            before = walk.refusals(client.staff)
            answer = call(client, row, names)
            if answer.status in (403, 404) and walk.refusals(client.staff) == before:
                yield f"{named(row)}: the refusal of {client.staff} ({answer.status}) is not recorded"


@check
def every_access_is_recorded(walk: Walk) -> Iterator[str]:
    """Each response with content is in the audit log, with the person and the resource or the list."""
    for row in ROUTES:
        if row.method != "GET":
            continue
        walk.later()
        staff = "auditor" if is_audit(row) else "engineer"
        answer = call(walk.web.sign_in(staff), row, EUROPE)
        subject = AUDIT_NAMES[row.path] if is_audit(row) else named(row)
        if is_of_one(row):
            last = row.path.split("{")[-1].partition("}")[0]
            # an access to a maintenance window is recorded for its instrument, and one to a paper for its box
            subject = EUROPE[{"window": "instrument", "paper": "box"}.get(last, last)]
        action = "export" if is_of_one(row) and not is_for_viewers(row) else ""
        if is_download(row):
            subject, action = hashlib.sha256(WAITING_FILE).hexdigest(), "download-file"
        records = [
            one
            for one in walk.web.entries
            if (one.actor, one.resource, one.outcome) == (staff, subject, "permitted")
            and action in ("", one.action)
        ]
        if answer.status == 200 and not records:
            yield f"{named(row)}: the access is not recorded"


@check
def forged_forms_have_no_effect(walk: Walk) -> Iterator[str]:
    """Forms without the token of their session or from another site are refused, and so are cookies at the API."""
    supervisor, again = walk.web.sign_in("supervisor"), walk.web.sign_in("supervisor")
    before = walk.content()
    for row in ROUTES:
        if row.method != "POST":
            continue
        walk.later()
        path = row.path.format(**EUROPE)
        own, other = supervisor.form_token(), again.form_token()
        if is_api(row):
            attempts = {"a cookie alone": (supervisor.post_json(path), 401)}
        else:
            fields = {"reason": "forged"} if "reason" in row.parameters.__struct_fields__ else {}
            attempts = {
                "no token": (supervisor.post(path, fields), 403),
                "the token of another session": (
                    supervisor.post(path, {**fields, "form_token": other}),
                    403,
                ),
                "a request from another site": (
                    supervisor.post(path, {**fields, "form_token": own}, sec_fetch_site="cross-site"),
                    403,
                ),
            }
        for text, (answer, status) in attempts.items():
            if answer.status != status or walk.content() != before:
                yield f"{named(row)}: {answer.status} for {text}"
                before = walk.content()


@check
def invalid_tokens_are_refused(walk: Walk) -> Iterator[str]:
    """Expired, revoked and forged API tokens, and those of inactive people, get the same response."""
    engineer = walk.web.sign_in("engineer")
    revoked = engineer.program()
    revoke_token(walk.store, list_tokens(walk.store)[0].id, NOW_MS)
    programs = {
        "an expired token": engineer.program(days=0),
        "a revoked token": revoked,
        "a token of an inactive person": walk.web.sign_in("former").program(),
    }
    for row in ROUTES:
        if not is_api(row):
            continue
        path = row.path.format(**EUROPE)
        forged = {"authorization": "Bearer rap_forged"}
        unknown = (
            walk.web.get(path, **forged) if row.method == "GET" else walk.web.post_json(path, b"", **forged)
        )
        for text, program in programs.items():
            walk.later()
            answer = call(program, row, EUROPE)
            if (answer.status, answer.body) != (401, unknown.body):
                yield f"{named(row)}: {answer.status} for {text}"


@check
def tokens_have_only_their_own_rights(walk: Walk) -> Iterator[str]:
    """An API token permits only its own actions, scope and purpose, whatever else its owner may do."""

    def program(staff: str, purpose: Purpose, actions: str, scope: str) -> WebClient:
        limits = frozenset({actions}), frozenset({scope})
        end_ms = NOW_MS + 30 * DAY_MS
        secret, _ = create_token(walk.store, staff, purpose, *limits, NOW_MS, end_ms)
        return replace(walk.web, staff=staff, secret=secret)

    american = program("engineer", "monitoring", "read", "region/america")
    reader = program("engineer", "monitoring", "read", "everywhere")
    writer = program("engineer", "monitoring", "handle-alert", "everywhere")
    auditor = program("auditor", "monitoring", "read", "everywhere")
    for row in ROUTES:
        if not is_api(row):
            continue
        walk.later()
        if is_audit(row):
            if (status := call(auditor, row, EUROPE).status) != 403:
                yield f"{named(row)}: {status} for a token with another purpose"
            continue
        answer = call(american, row, EUROPE)
        is_shown = any(hint.encode() in answer.body for hint in OF_EUROPE)
        if is_shown or (is_of_one(row) and answer.status != 404):
            yield f"{named(row)}: {answer.status} outside the scope of the token"
        answer = call(reader if row.method == "POST" else writer, row, EUROPE)
        if answer.status not in (403, 404) and b'"items":[]' not in answer.body:
            yield f"{named(row)}: {answer.status} for an action that the token does not include"


@check
def commands_need_a_valid_training(walk: Walk) -> Iterator[str]:
    """A command requires an unexpired training for the model."""
    walk.time_ms[0] = 2**42 + 1
    person, before = walk.web.sign_in("engineer"), walk.content()
    for row in ROUTES:
        if row.method == "POST" and row.path.endswith(("/commands", "/files")):
            answer = call(person, row, EUROPE)
            if answer.status != 403 or walk.content() != before:
                yield f"{named(row)}: {answer.status} with an expired training"
    walk.time_ms[0] = NOW_MS
    for row in ROUTES:
        if row.method == "POST" and row.path.endswith(("/commands", "/files")):
            answer = call(walk.web.sign_in("engineer"), row, {**EUROPE, "instrument": "HEMA-0001"})
            if answer.status != 403 or walk.content() != before:
                yield f"{named(row)}: {answer.status} without a training for the model"


@check
def dangerous_commands_need_a_second_person(walk: Walk) -> Iterator[str]:
    """A person cannot approve their own command, and a command that waits for approval is not sent."""
    waiting = {
        **COMMAND,
        "requester": "supervisor",
        "state": "waiting for approval",
        "file": "ab" * 32,
        "file_bytes": 1,
    }
    number = walk.store.queue_command(
        "RAP-0001", "CHEM-0001", "assay-configuration", b"", NOW_MS - 1000, **waiting
    )
    before = walk.content()
    answer = walk.web.sign_in("supervisor").post(f"/commands/{number}/approve")
    if answer.status != 403 or walk.content() != before:
        yield f"POST /commands/{{command}}/approve: {answer.status} for the requester"
    if walk.web.sign_in("supervisor").post("/commands/3/approve").status != 303:
        yield "POST /commands/{command}/approve: a second person cannot approve"


@check
def foreign_host_names_are_refused(walk: Walk) -> Iterator[str]:
    """Requests with a host name of another site, as in DNS rebinding, are refused with 421."""
    for row in ROUTES:
        if row.method == "GET" and walk.web.sign_in("engineer").get(
            row.path.format(**EUROPE), host="evil.example"
        ).status != (421):
            yield named(row)


@check
def decisions_lists_and_formulas_agree(_walk: Walk) -> Iterator[str]:
    """The compiled policies, their SQL and their SMT formulas decide random requests equally."""
    random, policies = Random(14), CompiledPolicies(read_policies())
    data = world(random, 8)
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        fill(connection, [one for listed in data.resources.values() for one in listed])
        for number, pair in enumerate(random.sample(PAIRS * 8, len(PAIRS) * 8)):
            request, listed = data.request(random, pair), data.resources[pair[1]]
            decided = [policies.decide(replace(request, resource=one)).permitted for one in listed]
            selected_ids = selected(connection, policies.policies, request)
            if decided != [one.id in selected_ids for one in listed]:
                yield f"{pair[0]} of a {pair[1]}: decision and list differ"
            if number % 20 == 0 and decided != proven(policies.policies, request, listed):
                yield f"{pair[0]} of a {pair[1]}: decision and formula differ"
    engine.dispose()
