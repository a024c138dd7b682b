"""The API: tokens, problem responses, cursors, ETags, limits, and a test of each operation with schemathesis."""

from __future__ import annotations

import json
import re
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from sqlalchemy import select

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.control import AccessRules
from datacenter.access.tokens import create_token, list_tokens, revoke_token
from datacenter.audit.access_log import AccessLog
from datacenter.store.store import Store
from datacenter.store.tables.schema import api_tokens
from datacenter.web.api.callers import BODY_BYTES_MAX, REQUESTS_BURST
from datacenter.web.application import make_web
from datacenter.web.pages import ROUTES
from datacenter.web.routes import WebServices
from datacenter.web.sessions import StaffSessions
from tests.support.datacenter.web.client import POLICIES, STAFF, WebClient, open_web, run_directly
from tests.support.datacenter.web.fleet import NOW_MS, fill_fleet
from tests.support.datacenter.web.triggers import known_triggers
from tools.api_reference import PAGE, render

ROOT = Path(__file__).parents[4]
API = "/api/v1"
ONE = f"{API}/instruments/RAP-0001/CHEM-0001"


def items(client: WebClient, target: str) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = json.loads(client.get(target).body)["items"]
    return listed


def test_a_program_acknowledges_an_alert_for_its_owner(changing: WebClient) -> None:
    program = changing.sign_in("engineer").program()
    answer = program.post_json(f"{API}/alerts/a-lamp/acknowledge", b"{}")
    assert (answer.status, json.loads(answer.body)["acknowledged_by"]) == (200, "engineer")
    assert changing.entries[-1].token and changing.entries[-1].action == "acknowledge-alert"


@pytest.mark.parametrize("secret", ["", "x", "rap_forged", "é", "a b"])
def test_a_forged_token_is_refused_and_recorded(web: WebClient, secret: str) -> None:
    answer = web.sign_in("engineer").get(ONE, authorization=f"Bearer {secret}")
    assert (answer.status, answer.headers["content-type"]) == (401, "application/problem+json")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert [one.action for one in web.entries if one.outcome == "refused"] == ["use-token"]


def test_a_request_with_two_tokens_is_refused(changing: WebClient) -> None:
    program = changing.sign_in("engineer").program()
    given = {"authorization": f"Bearer {program.secret}", "Authorization": "Bearer rap_other"}
    assert program.request("GET", ONE, b"", given).status == 401
    assert program.get(ONE).status == 200


def test_expired_and_revoked_tokens_look_like_unknown_ones(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    expired, revoked = engineer.program(days=0), engineer.program()
    assert changing.store is not None
    revoke_token(changing.store, list_tokens(changing.store)[0].id, NOW_MS)
    revoke_token(changing.store, list_tokens(changing.store)[1].id, NOW_MS)
    unknown = changing.get(ONE, authorization="Bearer rap_x")
    for program in (expired, revoked):
        answer = program.get(ONE)
        assert (answer.status, answer.body) == (401, unknown.body)
    assert any("revoked" in one.reason for one in changing.entries)


def test_only_the_hash_of_a_token_is_stored(changing: WebClient) -> None:
    program = changing.sign_in("engineer").program()
    assert changing.store is not None
    assert program.secret not in str(list(changing.store.read(select(api_tokens))))


def test_a_token_has_no_right_that_its_owner_or_its_limits_lack(web: WebClient) -> None:
    assert web.sign_in("newcomer").program().get(ONE).status == 404
    assert web.sign_in("former").program().get(ONE).status == 401
    assert items(web.sign_in("european").program(), f"{API}/boxes?limit=500") == items(
        web.sign_in("european"), f"{API}/boxes?limit=500"
    )
    reader = web.sign_in("engineer").program("monitoring", "read")
    assert reader.post_json(f"{API}/alerts/a-lamp/acknowledge").status == 403
    assert web.sign_in("auditor").program("audit").get(f"{API}/audit").status == 200
    assert web.sign_in("auditor").program("monitoring").get(f"{API}/audit").status == 403
    assert web.sign_in("engineer").program("audit").get(f"{API}/audit").status == 403


def test_the_scope_of_a_token_limits_lists_and_resources(changing: WebClient) -> None:
    assert changing.store is not None
    scope = frozenset({"region/europe"})
    secret, _ = create_token(
        changing.store, "engineer", "monitoring", frozenset({"read"}), scope, NOW_MS, NOW_MS + 1000
    )
    header = f"Bearer {secret}"
    assert changing.get(f"{API}/boxes/RAP-0003", authorization=header).status == 404
    boxes = json.loads(changing.get(f"{API}/boxes", authorization=header).body)["items"]
    assert [one["box"] for one in boxes] == ["RAP-0001", "RAP-0002"]


def test_a_session_reads_but_does_not_change(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    assert engineer.get(ONE).status == 200
    assert engineer.post_json(f"{API}/alerts/a-lamp/acknowledge").status == 401
    assert json.loads(engineer.get(f"{API}/alerts/a-lamp").body)["acknowledged_by"] is None


def test_a_token_is_no_session_for_pages(web: WebClient) -> None:
    assert web.sign_in("engineer").program().get("/boxes/RAP-0001").status == 401


@pytest.mark.parametrize(
    "path",
    [
        "sites",
        "boxes",
        "instruments",
        "alerts?state=all",
        "audit",
        "triggers",
        "maintenance?state=all",
        "commands",
        "files",
    ],
)
def test_cursors_visit_each_item_once(filled: Store, path: str) -> None:
    client = open_web(filled, lambda: NOW_MS, known=known_triggers()).sign_in("auditor")
    target = f"{API}/{path}{'&' if '?' in path else '?'}limit="
    all_items, visited, cursor = items(client, f"{target}500"), list[dict[str, object]](), ""
    for _ in range(len(all_items) + 1):
        part = json.loads(client.get(f"{target}1&cursor={cursor}").body)
        visited += part["items"]
        cursor = part["next"]
        if cursor is None:
            break
    assert visited == all_items
    assert all_items or path == "audit"
    assert cursor is None


def test_readings_are_all_statuses_in_the_order_of_time(web: WebClient) -> None:
    engineer, cursor, statuses = web.sign_in("engineer"), "", list[dict[str, object]]()
    target = f"{ONE}/readings?since_ms={NOW_MS - 3 * 86_400_000}&until_ms={NOW_MS}&limit=500&cursor="
    while cursor is not None:
        part = json.loads(engineer.get(target + cursor).body)
        statuses, cursor = statuses + part["items"], part["next"]
    numbers = [one["number"] for one in statuses]
    assert numbers == sorted(set(map(int, map(str, numbers)))) and len(numbers) > 2000
    assert part["completeness"][0]["missing"] == 201


def test_an_unchanged_answer_is_not_sent_again(web: WebClient) -> None:
    engineer = web.sign_in("engineer")
    etag = engineer.get(f"{API}/boxes").headers["etag"]
    assert engineer.get(f"{API}/boxes", if_none_match=etag).status == 304
    assert web.sign_in("european").get(f"{API}/boxes", if_none_match=etag).status == 200
    assert web.sign_in("european").get(f"{API}/boxes/RAP-0003", if_none_match="*").status == 404


@pytest.mark.parametrize(
    ("target", "status", "right"),
    [
        ("sites?limit=0", 400, "limit"),
        ("sites?limit=501", 400, "<= 500"),
        ("sites?cursor=AAAA", 400, "`next` of a response"),
        ("sites?cursor=%ff", 400, "UTF-8"),
        ("sites?lmit=1", 400, "did you mean limit?"),
        ("instruments/RAP-0001/CHEM-0001/readings?since_ms=0", 400, "at most 31 days"),
        ("nothing", 404, "not found"),
        ("boxes/RAP-9999", 404, "not found"),
    ],
)
def test_problems_say_what_would_be_right(web: WebClient, target: str, status: int, right: str) -> None:
    answer = web.sign_in("engineer").get(f"{API}/{target}")
    problem = json.loads(answer.body)
    assert (answer.status, problem["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert right in problem["detail"]


def test_methods_types_and_sizes_are_checked(web: WebClient) -> None:
    program, target = web.sign_in("engineer").program(), f"{API}/alerts/a-lamp/acknowledge"
    assert program.request("DELETE", ONE, b"", {}).status == 405
    assert program.get(target).headers["allow"] == "POST"
    assert program.post_json(target, b"x", **{"content-type": "text/plain"}).status == 415
    assert program.post_json(target, b" " * (BODY_BYTES_MAX + 1)).status == 413
    assert program.post_json(target, b"[]").status == 400
    assert program.post_json(target, b'{"x": "y"}').status == 400
    assert program.post_json(f"{target}?x=y").status == 400


def test_requests_of_one_program_are_limited_and_others_are_not(filled: Store) -> None:
    web = open_web(filled, lambda: NOW_MS)
    program = web.sign_in("engineer").program()
    statuses = [program.get(f"{API}/sites").status for _ in range(REQUESTS_BURST + 1)]
    assert statuses == [200] * REQUESTS_BURST + [429]
    assert int(program.get(f"{API}/sites").headers["retry-after"]) >= 1
    assert web.sign_in("engineer").program().get(f"{API}/sites").status == 200


def test_wrong_tokens_are_recorded_until_their_limit(filled: Store) -> None:
    web = open_web(filled, lambda: NOW_MS)
    statuses = [web.get(ONE, authorization="Bearer rap_x").status for _ in range(40)]
    assert statuses == [401] * 20 + [429] * 20
    assert len(web.entries) == 20


def test_the_document_describes_every_row(web: WebClient) -> None:
    document = json.loads(web.get(f"{API}/openapi.json").body)
    described = {(method.upper(), path) for path, each in document["paths"].items() for method in each}
    assert described == {(row.method, row.path) for row in ROUTES if row.response_kind == "api"}


def test_each_reference_in_the_document_names_a_schema(web: WebClient) -> None:
    body = web.get(f"{API}/openapi.json").body.decode()
    schemas = json.loads(body)["components"]["schemas"]
    referenced = set(re.findall(r'"#/components/schemas/([^"]+)"', body))
    assert "ProblemDetails" in referenced
    assert referenced <= set(schemas)


def application_for_schemathesis() -> tuple[object, str]:
    store = Store("sqlite://")
    fill_fleet(store, with_reports=False)
    clock = count(NOW_MS, 1000)
    services = WebServices(
        store,
        lambda: AccessRules(CompiledPolicies(POLICIES.policies), STAFF),
        StaffSessions(store),
        lambda: next(clock),
        run_directly,
        run_directly,
        AccessLog(lambda _: None),
        trigger_knowledge=known_triggers(),
    )
    limits = frozenset({"read", "change"}), frozenset({"everywhere"})
    end_ms = NOW_MS + 300 * 86_400_000
    secret, _ = create_token(store, "engineer", "service", *limits, NOW_MS, end_ms)
    return make_web(services, ["testserver"]), secret


APPLICATION, SECRET = application_for_schemathesis()
SCHEMA = schemathesis.openapi.from_asgi(f"{API}/openapi.json", APPLICATION)


def test_the_committed_document_is_valid_and_that_of_the_routes() -> None:
    SCHEMA.validate()
    committed = (ROOT / PAGE).read_text("utf-8")
    assert committed == render(), (
        "the API has changed: run `make golden`, and review docs/reference/openapi.json"
    )
    identities = re.findall(r'"operationId": "(\w+)"', committed)
    assert len(identities) == len(set(identities)) > 10


@pytest.mark.slow("requests drawn at random for each route of the API")
@SCHEMA.parametrize()
@settings(
    max_examples=10,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_schemathesis_finds_nothing(case: schemathesis.Case[Any]) -> None:
    headers = {"Authorization": f"Bearer {SECRET}"}
    # a schema cannot express that a cursor must come from a response, or that a period must not end before it begins
    case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])
