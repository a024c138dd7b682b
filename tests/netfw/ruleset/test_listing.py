"""Comparison of equal and different listings with a policy's ruleset, without a kernel."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from netfw.policy.policyfile import load_policy
from netfw.ruleset import listing
from netfw.ruleset.nft_json import Json
from netfw.ruleset.render import Ruleset, render
from tests.support.netfw.golden import POLICIES

EVERY_POLICY = sorted(POLICIES.glob("*.toml"))
CLINIC = render(load_policy(POLICIES / "clinic.toml"))


def as_listed(ruleset: Ruleset) -> list[Json]:
    """Return a listing as of a kernel: elements are in their sets, in another order; handles and counts are added."""
    objects = copy.deepcopy([*ruleset.declarations(), *ruleset.contents()])
    sets = {item["set"]["name"]: item["set"] for item in objects if "set" in item}
    listed = []
    for handle, item in enumerate(objects, 1):
        ((kind, body),) = item.items()
        if kind == "element":
            sets[body["name"]]["elem"] = body["elem"][::-1]
            continue
        body["handle"] = handle
        if kind == "counter":
            body |= {"packets": 7 * handle, "bytes": 420}
        if kind == "rule":
            body["expr"] = [listed_statement(statement) for statement in body["expr"]]
        listed.append(item)
    for each in sets.values():
        if each["name"] == "connections":
            each["flags"] = "dynamic"  # as since libnftables 1.1: a single flag is not a list
            each["elem"] = []
        if each["name"] == "logged":
            each["flags"] = ["dynamic", "timeout"]
        if each["name"].startswith("sessions"):
            key = {"concat": ["10.99.1.2", "enp2s0", "10.77.1.5", "tcp", 5900]}
            each["elem"] = [{"elem": {"val": key, "timeout": 500, "expires": 400}}]
    return listed


def listed_statement(statement: Json) -> Json:
    match statement:
        case {"match": {"op": op, "left": left, "right": right}}:
            other = {"in": "==", "==": "=="}.get(op, op)
            return {"match": {"op": other, "left": listed_value(left), "right": listed_value(right)}}
    return statement


def listed_value(value: Json) -> Json:
    match value:
        case {"set": members}:
            return {"set": [listed_value(each) for each in members][::-1]}
        case {"&": [left, flags]}:
            return {"&": [left, flags[::-1]]}
        case list():
            return value[::-1]
    return value


def differences(change: Callable[[list[Json]], Any], sets: Iterable[str] | None = None) -> list[str]:
    """Return the differences after a change of the clinic's listing."""
    objects = as_listed(CLINIC)
    change(objects)
    chosen = None if sets is None else set(sets)
    return list(listing.differences(listing.of_ruleset(CLINIC), listing.of_objects(objects), chosen))


def find(objects: list[Json], kind: str, name: str) -> Any:
    return next(each[kind] for each in objects if kind in each and each[kind]["name"] == name)


def rules(objects: list[Json], chain: str) -> list[Json]:
    return [each["rule"] for each in objects if "rule" in each and each["rule"]["chain"] == chain]


def remove(objects: list[Json], body: Json) -> None:
    objects[:] = [each for each in objects if body not in each.values()]


@pytest.mark.parametrize("file", EVERY_POLICY, ids=lambda file: file.stem)
def test_handles_counts_times_and_orders_make_no_difference(file: Any) -> None:
    ruleset = render(load_policy(file))
    listed = listing.of_objects(as_listed(ruleset))
    assert list(listing.differences(listing.of_ruleset(ruleset), listed)) == []
    assert list(listing.differences(listed, listing.of_ruleset(ruleset))) == []


def test_the_rulesets_of_two_policies_differ() -> None:
    other = listing.of_ruleset(render(load_policy(POLICIES / "lease.toml")))
    lines = list(listing.differences(listing.of_ruleset(CLINIC), other))
    assert "set peers4 is not the policy's" in lines
    assert any(line.startswith("chain input has beyond the policy, as rule 5: iifname") for line in lines)
    reverse = list(listing.differences(other, listing.of_ruleset(CLINIC)))
    assert "set peers4 is missing" in reverse
    assert any(line.startswith("chain input lacks its rule 5: iifname") for line in reverse)


# -- sets, chains, counters


def test_missing_objects_are_named() -> None:
    assert differences(lambda o: remove(o, find(o, "counter", "egress"))) == ["counter egress is missing"]
    assert differences(lambda o: remove(o, find(o, "chain", "outside"))) == ["chain outside is missing"]
    assert differences(lambda o: remove(o, find(o, "set", "authorized6"))) == ["set authorized6 is missing"]
    assert differences(lambda o: remove(o, find(o, "set", "services4")))[0] == "set services4 is missing"


def test_objects_beyond_the_policy_are_named() -> None:
    other = {"family": "inet", "table": "rap", "name": "other", "handle": 9}
    for kind in ("counter", "set", "map", "chain", "quota"):
        assert differences(lambda o: o.append({kind: other})) == [  # noqa: B023 - is called at once
            f"{kind} other is not the policy's"
        ]


@pytest.mark.parametrize(
    ("kind", "name", "key", "value"),
    [
        ("chain", "forward", "policy", "accept"),
        ("chain", "forward", "prio", 5),
        ("chain", "input", "hook", "output"),
        ("set", "ports", "type", "ipv4_addr"),
        ("set", "ports", "flags", ["interval"]),
        ("set", "authorized4", "size", 2048),
        ("set", "logged", "timeout", 61),
        ("table", "rap", "flags", ["dormant"]),
    ],
)
def test_a_changed_attribute_is_shown_with_its_expected_and_actual_value(
    kind: str, name: str, key: str, value: Any
) -> None:
    (line,) = differences(lambda o: find(o, kind, name).update({key: value}))
    assert line.startswith(f"{kind} {name} should be {{")
    expected, actual = line.removeprefix(f"{kind} {name} should be ").split(", and is ")
    assert expected != actual
    assert f'"{key}": ' in actual


# -- elements


def test_missing_and_additional_elements_are_named_up_to_three_of_each() -> None:
    def change(objects: list[Json]) -> None:
        elements = find(objects, "set", "services4")["elem"]
        elements[:] = [
            *(each for each in elements if each["concat"][3] != 2575),
            *({"concat": ["enp2s0", "10.77.1.1", "tcp", port]} for port in (21, 22, 23, 24, 25)),
        ]

    added = ", ".join(f"enp2s0 . 10.77.1.1 . tcp . {port}" for port in (21, 22, 23))
    assert differences(change) == [
        "set services4 lacks enp3s0 . 10.77.2.1 . tcp . 2575",
        f"set services4 has beyond the policy {added} and 2 more",
    ]
    assert differences(change, sets=["services6", "ports"]) == []
    assert len(differences(change, sets=["services4"])) == 2

    def three(objects: list[Json]) -> None:
        change(objects)
        del find(objects, "set", "services4")["elem"][-2:]

    assert differences(three)[1] == f"set services4 has beyond the policy {added}"


def test_an_element_of_an_interface_set_is_compared_by_its_name() -> None:
    assert differences(lambda o: find(o, "set", "ports")["elem"].append("eth9")) == [
        "set ports has beyond the policy eth9"
    ]


def test_open_sessions_are_not_a_difference_and_counted_connections_are() -> None:
    element = {"elem": {"val": "enp2s0", "ct count": {"val": 256, "inv": True}}}
    lines = differences(lambda o: find(o, "set", "connections").update({"elem": [element]}))
    assert lines == ["set connections has beyond the policy enp2s0"]
    assert CLINIC.volatile >= {"connections"}, "callers exclude sets that change"


def addresses(*elements: Json) -> list[Json]:
    declared = {
        "family": "inet",
        "table": "rap",
        "name": "inside4",
        "type": "ipv4_addr",
        "flags": ["interval"],
    }
    return [{"set": {**declared, "elem": list(elements)}}]


def prefix(network: str) -> Json:
    address, _, length = network.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}}


@pytest.mark.parametrize(
    ("one", "other", "lines"),
    [
        ([prefix("10.0.0.0/24")], [prefix("10.0.0.0/25"), prefix("10.0.0.128/25")], []),
        ([prefix("10.0.0.0/24")], [{"range": ["10.0.0.0", "10.0.0.255"]}], []),
        ([prefix("10.0.0.0/24")], [{"range": ["10.0.0.0", "10.0.0.9"]}, {"range": ["10.0.0.10", "10.0.0.255"]}], []),
        (["10.0.0.1", "10.0.0.2"], [{"range": ["10.0.0.1", "10.0.0.2"]}], []),
        ([prefix("10.0.0.0/8"), "10.1.2.3"], [prefix("10.0.0.0/8")], []),
        ([prefix("fd00::/64")], [prefix("fd00::/65"), prefix("fd00::8000:0:0:0/65")], []),
        (["10.0.0.1", "10.0.0.3"], [{"range": ["10.0.0.1", "10.0.0.3"]}],
         ["lacks 10.0.0.1-10.0.0.1, 10.0.0.3-10.0.0.3", "has beyond the policy 10.0.0.1-10.0.0.3"]),
        (["255.255.255.255", "::"], ["255.255.255.255"], ["lacks ::-::"]),
        (["255.255.255.255", prefix("::1:0:0/96")], ["255.255.255.255"], ["lacks ::1:0:0-::1:ffff:ffff"]),
        ([prefix("10.0.0.0/24"), prefix("10.0.2.0/24")], [prefix("10.0.0.0/24")], ["lacks 10.0.2.0-10.0.2.255"]),
        ([{"range": ["10.0.0.1", "fd00::1"]}], [], ["lacks 10.0.0.1-fd00::1"]),
        ([{"range": ["a", "b"]}, 443], [443], ["lacks a-b"]),
        ([{"range": [1, 5]}], [{"range": [1, 6]}], ["lacks 1-5", "has beyond the policy 1-6"]),
        ([prefix("nowhere/24")], [], ["lacks nowhere/24"]),
        ([prefix("10.0.0.1/24")], [], ["lacks 10.0.0.1/24"]),  # host bits are set
        ([{"concat": ["a", prefix("10.0.0.0/8")]}], [{"concat": ["a", prefix("10.0.0.0/9")]}],
         ["lacks a . 10.0.0.0/8", "has beyond the policy a . 10.0.0.0/9"]),
        ([{"concat": ["a", 1]}], [{"concat": ["a", "1"]}], ["lacks a . 1", "has beyond the policy a . 1"]),
    ],
)  # fmt: skip
def test_intervals_are_equal_if_they_contain_the_same_addresses(
    one: list[Json], other: list[Json], lines: list[str]
) -> None:
    expected, actual = listing.of_objects(addresses(*one)), listing.of_objects(addresses(*other))
    assert list(listing.differences(expected, actual)) == [f"set inside4 {line}" for line in lines]


# -- rules


def test_missing_and_additional_rules_are_named_with_their_number_and_text() -> None:
    extra = {"family": "inet", "table": "rap", "chain": "input", "handle": 99, "expr": [{"accept": None}]}

    def insert(objects: list[Json]) -> None:
        index = objects.index({"rule": rules(objects, "input")[2]})
        objects.insert(index, {"rule": extra})

    assert differences(insert) == ["chain input has beyond the policy, as rule 3: accept"]

    def remove_two(objects: list[Json]) -> None:
        remove(objects, rules(objects, "output")[1])
        remove(objects, rules(objects, "output")[-1])

    hops, *_, refusal = [rule["expr"] for rule in rules(as_listed(CLINIC), "output")][1:]
    assert hops and refusal
    first, last = differences(remove_two)
    assert first.startswith("chain output lacks its rule 2: ip6 hoplimit . icmpv6 type { ")
    assert last == 'chain output lacks its rule 12: counter name "egress" reject with icmpx admin-prohibited'


def test_a_changed_rule_is_shown_as_rendered_and_as_listed() -> None:
    def change(objects: list[Json]) -> None:
        rules(objects, "outside")[1]["expr"][-1] = {"accept": None}

    assert differences(change) == [
        'chain outside lacks its rule 2: counter name "outside" drop',
        'chain outside has beyond the policy, as rule 2: counter name "outside" accept',
    ]


def test_the_order_of_rules_matters() -> None:
    def swap(objects: list[Json]) -> None:
        one, other = rules(objects, "input")[:2]
        one["expr"], other["expr"] = other["expr"], one["expr"]

    assert len(differences(swap)) == 2


def test_a_rule_without_expressions_and_a_comment_that_differs_are_differences() -> None:
    empty = {"family": "inet", "table": "rap", "chain": "output", "handle": 99}
    assert differences(lambda o: o.append({"rule": empty})) == [
        "chain output has beyond the policy, as rule 13: "
    ]

    def comment(objects: list[Json]) -> None:
        rules(objects, "prerouting")[0]["comment"] = "policy other"

    lines = differences(comment)
    assert [line.split(":")[0] for line in lines] == [
        "chain prerouting lacks its rule 1",
        "chain prerouting has beyond the policy, as rule 1",
    ]
    assert lines[1].endswith(' comment "policy other"')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"set": ["a", "b"]}, {"set": ["a", "c"]}),
        (["new", "related"], ["new"]),
        ([{"prefix": {"addr": "10.0.0.0", "len": 8}}, 5, "new"], ["new"]),
        ({"set": [{"concat": [1, "a"]}]}, {"set": [{"concat": ["a", 1]}]}),
        ({"set": [1, "a"]}, {"set": ["a", "1"]}),
    ],
)
def test_members_that_differ_and_parts_in_another_order_are_differences(one: Json, other: Json) -> None:
    def rule(right: Json, op: str = "==") -> list[Json]:
        left = {"ct": {"key": "state"}}
        return [{"rule": {"chain": "input", "expr": [{"match": {"op": op, "left": left, "right": right}}]}}]

    def same(a: list[Json], b: list[Json]) -> bool:
        return not list(listing.differences(listing.of_objects(a), listing.of_objects(b)))

    assert not same(rule(one), rule(other))
    assert same(rule(one, "in"), rule(one))
    assert not same(rule(one, "!="), rule(one))


# -- the mark


def test_the_mark_of_a_listing_is_the_comment_of_its_policy() -> None:
    assert listing.mark(as_listed(CLINIC)) == CLINIC.mark
    with_another = [{"set": {"name": "other", "comment": "mine"}}, *as_listed(CLINIC)]
    assert listing.mark(with_another) == CLINIC.mark
    assert listing.mark([{"rule": {"comment": "mine"}}, {"rule": {}}]) == ""
    assert listing.mark([]) == ""
