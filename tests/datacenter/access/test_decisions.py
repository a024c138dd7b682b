"""Decisions equal those of the reference implementation of Cedar, and each has a reason."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.language.policy import PolicySet
from datacenter.access.language.policyfile import parse_policies, read_policies
from datacenter.access.request import AccessRequest, ApiToken, Approval, Principal, RequestContext, Resource
from datacenter.access.vocabulary import ACTIONS, KINDS, PAIRS
from tests.support.datacenter.access.cases import FILE, NOW_MS, quoted, random_policies, world
from tests.support.datacenter.access.reference import decisions

DAY_MS = 86_400_000
SHIPPED = CompiledPolicies(read_policies())
ENGINEER = Principal(
    "engineer",
    frozenset({"service-engineer"}),
    frozenset({"country/DE"}),
    {"hematology-analyzer": 20_727 * DAY_MS},  # 2026-10-01
)
INSTRUMENT = Resource("Instrument", "HEMA-0001", "berlin", "DE", "europe", "hematology-analyzer")
SERVICE = RequestContext(20_000 * DAY_MS, "service")


def decided(policies: CompiledPolicies, requests: list[AccessRequest]) -> list[tuple[str, bool]]:
    """Check that decisions equal those of the reference; return them as (action, permitted)."""
    outcomes = []
    for request, (permitted, ids) in zip(requests, decisions(policies.policies, requests), strict=True):
        decision = policies.decide(request)
        assert decision.permitted == permitted, request
        assert (decision.policy.id in ids) if decision.policy else not ids, request
        assert decision.reason
        outcomes.append((request.action, permitted))
    return outcomes


def test_shipped_policies_decide_as_the_reference_implementation() -> None:
    random = Random(12)
    outcomes: set[tuple[str, bool]] = set()
    for _ in range(3):
        data = world(random)
        requests = [data.request(random, pair) for pair in PAIRS for _ in range(40)]
        outcomes.update(decided(SHIPPED, requests))
    assert outcomes == {(action, permitted) for action in ACTIONS for permitted in (True, False)}


def test_random_policies_decide_as_the_reference_implementation() -> None:
    random, permitted = Random(3), 0
    for _ in range(20):
        pair = random.choice(PAIRS)
        policies, data = CompiledPolicies(random_policies(random, pair)), world(random)
        results = decided(policies, [data.request(random, pair) for _ in range(40)])
        permitted += sum(result for _, result in results)
    assert 100 < permitted < 700


@pytest.mark.parametrize(
    ("offset_ms", "permitted"), [(-1_000, True), (-1, True), (0, False), (1, False), (1_000, False)]
)
def test_a_training_ends_exactly_at_its_expiry(offset_ms: int, permitted: bool) -> None:
    now_ms = ENGINEER.trainings["hematology-analyzer"] + offset_ms
    request = AccessRequest(ENGINEER, "open-session", INSTRUMENT, replace(SERVICE, now_ms=now_ms))
    assert SHIPPED.decide(request).permitted is permitted
    assert decisions(SHIPPED.policies, [request])[0][0] is permitted


@pytest.mark.parametrize(
    ("offset_ms", "permitted"), [(-1_000, True), (-1, True), (0, False), (1, False), (1_000, False)]
)
def test_a_token_and_an_approval_end_exactly_at_their_expiry(offset_ms: int, permitted: bool) -> None:
    until_ms = SERVICE.now_ms - offset_ms
    token = ApiToken("ci", frozenset({"read"}), frozenset({"country/DE"}), until_ms)
    request = AccessRequest(ENGINEER, "view", INSTRUMENT, replace(SERVICE, token=token))
    assert SHIPPED.decide(request).permitted is permitted
    box = Resource("Box", "RAP-0001", "berlin", "DE", "europe")
    approved = replace(SERVICE, approval=Approval("bo", until_ms))
    assert SHIPPED.decide(AccessRequest(ENGINEER, "update-box", box, approved)).permitted is permitted


def reason(action: str, resource: Resource = INSTRUMENT, who: Principal = ENGINEER, **changes: object) -> str:
    context = replace(SERVICE, **changes)  # type: ignore[arg-type]
    return SHIPPED.decide(AccessRequest(who, action, resource, context)).reason


def test_a_permission_names_its_policy() -> None:
    assert reason("open-session") == "permitted by policy control-desktop"


def test_a_refusal_names_the_expired_training() -> None:
    assert reason("open-session", now_ms=20_727 * DAY_MS).endswith(
        "require a valid training for its model: no valid training for hematology-analyzer, expired 2026-10-01"
    )
    other = replace(ENGINEER, trainings={"hematology-analyzer": 20_727 * DAY_MS + 61_000})
    assert reason("send-file", who=other, now_ms=21_000 * DAY_MS).endswith("expired 2026-10-01 00:01:01 UTC")


def test_a_refusal_names_the_missing_training() -> None:
    other = replace(INSTRUMENT, model="chemistry-analyzer")
    assert reason("open-session", other).endswith(": no training for chemistry-analyzer")


def test_a_refusal_names_the_location_outside_the_scope() -> None:
    assert reason("view", replace(INSTRUMENT, site="lyon", country="FR")).endswith(
        "HEMA-0001 (site/lyon, country/FR, region/europe) is outside of the scope of the staff (country/DE)"
    )


def test_a_refusal_names_the_missing_role_and_purpose() -> None:
    assert reason("open-session", purpose="monitoring") == (
        "no policy permits engineer to control the desktop of Instrument HEMA-0001:"
        " the purpose (monitoring) is not service"
    )
    viewer = replace(ENGINEER, roles=frozenset({"viewer"}))
    assert reason("open-session", who=viewer).endswith("engineer lacks the role service-engineer")
    assert reason("send-command", who=viewer).endswith(
        "engineer has none of the roles application-specialist, installer, service-engineer"
    )
    assert (
        reason("view", who=replace(ENGINEER, roles=frozenset()))
        == "no policy permits view: engineer has no role"
    )


def test_a_refusal_names_the_limit_of_a_token() -> None:
    token = ApiToken("ci", frozenset({"view"}), frozenset({"site/munich"}), SERVICE.now_ms + 1)
    assert "the API token does not include the action" in reason("open-session", token=token)
    assert "is outside of the scope of the API token (site/munich)" in reason("view", token=token)


def test_an_action_that_does_not_exist_for_the_resource_is_refused() -> None:
    for action, kind in (
        ("view", "Policy"),
        ("open-sesion", "Instrument"),
        ("remote", "Instrument"),
        ("view", "Door"),
    ):
        decision = SHIPPED.decide(AccessRequest(ENGINEER, action, Resource(kind, "x"), SERVICE))
        assert not decision.permitted
        assert decision.reason == f"there is no action {action} for a resource of type {kind}"


def test_nothing_is_permitted_without_policies() -> None:
    no_policies = CompiledPolicies(PolicySet(()))
    data = world(Random(1))
    for action, kind in PAIRS:
        assert not no_policies.decide(data.request(Random(2), (action, kind))).permitted


def test_roles_that_do_not_exist_give_no_rights() -> None:
    forged = replace(ENGINEER, roles=frozenset({"Administrator", "supervisor ", 'viewer" || true || "'}))  # type: ignore[arg-type]
    for action, kind in PAIRS:
        own = dict.fromkeys(KINDS[kind], "x")
        resource = Resource(kind, "x", "berlin", "DE", "europe", **own)
        context = RequestContext(SERVICE.now_ms, "service", None, Approval("bo", SERVICE.now_ms + 1))
        assert not SHIPPED.decide(AccessRequest(forged, action, resource, context)).permitted


@pytest.mark.parametrize(
    "name", ['" || true || "', "') or __import__('os') or ('", "k0", "\\", "é", "e\u0301", "{}", "\u2028"]
)
def test_names_in_policies_are_never_code(name: str) -> None:
    text = f'@id("one") permit (principal == Staff::{quoted(name)}, action == Action::"view", resource);'
    policies = CompiledPolicies(PolicySet(parse_policies(text, FILE)))
    requests = [
        AccessRequest(Principal(who), "view", Resource("Site", "x"), SERVICE)
        for who in (name, "other", "", unicode_twin(name))
    ]
    assert [permitted for _, permitted in decided(policies, requests)] == [True, False, False, False]


def unicode_twin(name: str) -> str:
    """Return a different name with the same appearance, or the name with a trailing space."""
    twins = {"é": "e\u0301", "e\u0301": "é"}
    return twins.get(name, f"{name} ")


def test_random_requests_include_boundary_times() -> None:
    random = Random(5)
    times = {world(random).request(random).context.now_ms for _ in range(300)}
    assert {NOW_MS - 1, NOW_MS, NOW_MS + 1} <= times
