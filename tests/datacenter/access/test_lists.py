"""Lists contain exactly the rows that decisions permit, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from sqlalchemy import Connection, create_engine, select

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.language.policy import PolicySet
from datacenter.access.language.policyfile import parse_policies, read_policies
from datacenter.access.language.sql import where_permitted
from datacenter.access.request import AccessRequest, Principal, RequestContext, Resource
from datacenter.access.vocabulary import PAIRS
from tests.support.datacenter.access.cases import (
    AUDITOR,
    CHIEF,
    FILE,
    MODELS,
    NOW_MS,
    STAFF,
    quoted,
    random_policies,
    world,
)
from tests.support.datacenter.access.lists import COLUMNS, fill, resources, selected

SHIPPED = CompiledPolicies(read_policies())
CONTEXT = RequestContext(NOW_MS, "service")


@pytest.fixture(params=["sqlite", "postgresql"])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    url = "sqlite://" if request.param == "sqlite" else str(request.getfixturevalue("empty_postgres"))
    engine = create_engine(url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def permitted(policies: CompiledPolicies, request: AccessRequest, listed: list[Resource]) -> set[str]:
    return {each.id for each in listed if policies.decide(replace(request, resource=each)).permitted}


def test_a_list_has_the_rows_that_decisions_permit(connection: Connection) -> None:
    random, sizes = Random(4), []
    for number in range(8):
        data = world(random, 20)
        fill(connection, [one for listed in data.resources.values() for one in listed])
        for pair in random.sample(PAIRS, 6):
            policies = SHIPPED if number % 2 else CompiledPolicies(random_policies(random, pair))
            for _ in range(4):
                request = data.request(random, pair)
                rows = selected(connection, policies.policies, request)
                assert rows == permitted(policies, request, data.resources[pair[1]]), (pair, request)
                sizes.append(len(rows))
    assert sum(0 < size < 20 for size in sizes) > 15


def test_lists_and_decisions_agree_on_missing_attributes(connection: Connection) -> None:
    bare = [
        Resource("Alert", "1"),
        Resource("Alert", "2", model=MODELS[0]),
        Resource("Alert", "3", country="DE"),
    ]
    fill(connection, bare)
    for condition in (
        f"resource.model == {quoted(MODELS[0])}",
        f"resource.model != {quoted(MODELS[0])}",
        'resource.model == ""',
        'resource.model != ""',
        f'["", {quoted(MODELS[0])}].contains(resource.model)',
        '!(resource in Location::"country/DE")',
        "!principal.hasTag(resource.model)",
        "!(principal.hasTag(resource.model) && context.now_ms < principal.getTag(resource.model))",
    ):
        text = f'@id("a") permit (principal, action == Action::"view", resource is Alert) when {{ {condition} }};'
        policies = CompiledPolicies(PolicySet(parse_policies(text, FILE)))
        request = AccessRequest(CHIEF, "view", bare[0], CONTEXT)
        rows = selected(connection, policies.policies, request)
        assert rows == permitted(policies, request, bare), condition


@pytest.mark.parametrize("name", [*STAFF, "%", "_", "\\", "a' OR '1'='1", "x') OR 1=1 --"])
def test_names_in_lists_are_values(connection: Connection, name: str) -> None:
    others = ["", "a", "A", "X", "é"]
    listed = [Resource("Command", value or "none", requester=value) for value in {name, *others}]
    fill(connection, listed)
    text = (
        '@id("own") permit (principal, action == Action::"view", resource is Command)'
        " when { resource.requester == principal };"
        f'@id("one") permit (principal, action == Action::"withdraw-command", resource)'
        f" when {{ resource.requester == Staff::{quoted(name)} }};"
    )
    policies = PolicySet(parse_policies(text, FILE))
    for action, who in (("view", name), ("withdraw-command", "somebody")):
        request = AccessRequest(Principal(who), action, listed[0], CONTEXT)
        assert selected(connection, policies, request) == {name}


def test_case_and_accents_distinguish_names(connection: Connection) -> None:
    listed = [
        Resource("Instrument", name, site=name)
        for name in ("berlin", "Berlin", "bérlin", "be\u0301rlin", "berlin ")
    ]
    fill(connection, listed)
    viewer = Principal("v", frozenset({"viewer"}), frozenset({"site/berlin"}))
    request = AccessRequest(viewer, "view", listed[0], CONTEXT)
    assert selected(connection, SHIPPED.policies, request) == {"berlin"}


def test_a_list_for_an_action_that_does_not_exist_is_empty(connection: Connection) -> None:
    fill(connection, [Resource("Policy", "1")])
    for action, kind in (("view", "Policy"), ("remote", "Policy"), ("x", "Policy")):
        clause = where_permitted(SHIPPED.policies, AUDITOR, action, kind, CONTEXT, COLUMNS)
        assert connection.execute(select(resources).where(clause)).all() == []


def test_a_list_needs_a_column_for_each_attribute() -> None:
    columns = {name: column for name, column in COLUMNS.items() if name not in ("model", "country")}
    with pytest.raises(ValueError, match="of type Alert needs a column for country, model"):
        where_permitted(SHIPPED.policies, CHIEF, "view", "Alert", CONTEXT, columns)
    with pytest.raises(ValueError, match="a column for model"):
        where_permitted(SHIPPED.policies, CHIEF, "view", "Alert", CONTEXT, {**COLUMNS, "model": None})


def test_resources_without_a_site_are_listed_without_its_column(connection: Connection) -> None:
    fill(
        connection,
        [Resource("Site", "a", country="DE", region="europe"), Resource("Site", "b", country="FR")],
    )
    viewer = Principal("v", frozenset({"viewer"}), frozenset({"country/DE", "site/a"}))
    clause = where_permitted(SHIPPED.policies, viewer, "view", "Site", CONTEXT, {**COLUMNS, "site": None})
    assert [row.id for row in connection.execute(select(resources).where(clause))] == ["a"]
