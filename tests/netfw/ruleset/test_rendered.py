"""Rendered rulesets, without a kernel: the theorems are proven, and the text is compared with golden files."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from netfw.policy.policy import Authorized, Policy, PolicyPort, PolicyTunnel, Service
from netfw.policy.policyfile import load_policy
from netfw.proof.prove import prove
from netfw.ruleset import names
from netfw.ruleset.nft_json import Json
from netfw.ruleset.render import Ruleset, render
from netfw.ruleset.sessions import THE_BOX, Session, why_not_permitted
from netfw.ruleset.text import rule_text, ruleset_text, value_text
from netfw.ruleset.timeouts import BOX_S
from tests.support.netfw.golden import POLICIES, goldens
from tests.support.netfw.table import referred

CLINIC, IPSEC, LEASE = (load_policy(POLICIES / f"{name}.toml") for name in ("clinic", "ipsec", "lease"))
HTTPS = Service("tcp", 443)
SMALL = Policy("enp1s0", (PolicyPort(1, "enp2s0", (ip_interface("10.77.1.1/24"),), (HTTPS,)),), ())
EVERYTHING = replace(
    IPSEC,
    uses_dhcp=True,
    ports=CLINIC.ports,
    tunnel=CLINIC.tunnel,
    authorized=(*IPSEC.authorized, *CLINIC.authorized),
)


def policy_of(**changes: object) -> Policy:
    return replace(CLINIC, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "policy",
    [
        SMALL,
        CLINIC,
        IPSEC,
        LEASE,
        EVERYTHING,
        policy_of(tunnel=None),
        policy_of(rejects_outside=True, accept_router_advertisements=True),
        policy_of(ports=()),
        policy_of(authorized=()),
    ],
    ids=["small", "clinic", "ipsec", "lease", "everything", "no tunnel", "rejecting", "no ports", "isolated"],
)
def test_no_packet_refutes_a_theorem_of_the_policy(policy: Policy) -> None:
    objects = [command["add"] for command in render(policy).commands()]
    assert [str(finding) for finding in prove(policy, objects) if not finding.holds] == []


@pytest.mark.parametrize(("path", "text"), list(goldens()), ids=lambda value: getattr(value, "stem", ""))
def test_the_ruleset_of_a_policy_is_the_golden_one(path: Path, text: str) -> None:
    assert text.splitlines() == path.read_text("utf-8").splitlines(), (
        "if the change is intended, run `make golden`, and read the diff"
    )


def elements(ruleset: Ruleset, name: str) -> list[str]:
    (named,) = [each for each in ruleset.sets if each.name == name]
    return [value_text(element) for element in named.elements]


# -- elements of the sets


def addressed(*addresses: str) -> Policy:
    port = PolicyPort(1, "enp2s0", tuple(map(ip_interface, addresses)), (HTTPS,))
    return Policy("enp1s0", (port,), ())


@pytest.mark.parametrize(
    ("own", "others"),
    [
        ("10.77.1.1/24", ["10.77.1.2-10.77.1.254"]),
        ("10.77.1.254/24", ["10.77.1.1-10.77.1.253"]),
        ("10.77.1.5/29", ["10.77.1.1-10.77.1.4", "10.77.1.6"]),
        ("10.77.1.1/30", ["10.77.1.2"]),
        ("10.77.1.0/31", ["10.77.1.1"]),  # RFC 3021
        ("10.77.1.1/32", []),
        ("10.77.1.4/28", ["10.77.1.1-10.77.1.3", "10.77.1.5-10.77.1.14"]),
        ("fd00::1/64", ["fd00::2-fd00::ffff:ffff:ffff:ffff"]),
        ("fd00::/127", ["fd00::1"]),  # RFC 6164
        ("fd00::7/125", ["fd00::1-fd00::6"]),
    ],
)
def test_an_instrument_may_have_any_address_of_its_subnet_but_the_reserved_ones(
    own: str, others: list[str]
) -> None:
    version = 6 if ":" in own else 4
    loopback, *sources = elements(render(addressed(own)), f"sources{version}")
    assert loopback == {4: "lo . 0.0.0.0/0", 6: "lo . ::/0"}[version]
    assert sources == [f"enp2s0 . {each}" for each in others]


def test_addresses_and_networks_of_one_service_are_merged() -> None:
    networks = ("192.0.2.1", "192.0.2.0/25", "192.0.2.128/25", "192.0.2.1", "2001:db8::1", "2001:db8::/64")
    parsed = tuple(map(ip_network, networks))
    policy = policy_of(
        authorized=(
            Authorized("datacenter", parsed, (HTTPS,)),
            Authorized("other", parsed[:1], (HTTPS, Service("udp", 123))),
        )
    )
    ruleset = render(policy)
    assert elements(ruleset, "authorized4") == ["192.0.2.1 . tcp . 443", "192.0.2.1 . udp . 123"]
    assert elements(ruleset, "authorized_networks4") == ["192.0.2.0/24 . tcp . 443"]
    assert elements(ruleset, "authorized6") == ["2001:db8::1 . tcp . 443"]
    assert elements(ruleset, "authorized_networks6") == ["2001:db8::/64 . tcp . 443"]


@pytest.mark.parametrize(
    ("count", "size"), [(0, 1024), (1023, 1024), (1024, 2048), (2047, 2048), (2048, 4096)]
)
def test_a_hash_set_has_room_for_its_elements_and_at_least_1024(count: int, size: int) -> None:
    hosts = tuple(ip_network(0x32000000 + n) for n in range(count))
    ruleset = render(policy_of(authorized=(Authorized("datacenter", hosts, (HTTPS,)),)))
    assert [each.size for each in ruleset.sets if each.name == "authorized4"] == [size]


def test_no_address_of_the_box_or_of_staff_may_come_from_outside() -> None:
    tunnel = PolicyTunnel(
        "tun-rap", tuple(map(ip_network, ("10.99.0.0/17", "10.99.128.0/17", "fd00:99::/48")))
    )
    ruleset = render(replace(CLINIC, tunnel=tunnel))
    assert elements(ruleset, "inside4") == [
        *("0.0.0.0/8", "10.77.1.0/24", "10.77.2.0/24", "10.99.0.0/16"),
        *("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"),
    ]
    assert {"fd00:77:1::/64", "fd00:99::/48", "fe80::/10", "ff00::/8"} <= set(elements(ruleset, "inside6"))


def test_sets_changed_by_rules_or_timeouts_are_volatile() -> None:
    assert render(CLINIC).volatile == {"connections", "logged", "sessions4", "sessions6"}


# -- the mark


def test_the_mark_identifies_the_policy() -> None:
    marks = [
        render(policy).mark
        for policy in (CLINIC, IPSEC, LEASE, SMALL, replace(CLINIC, ports=CLINIC.ports[:1]))
    ]
    assert len(set(marks)) == 5
    assert render(replace(CLINIC)).mark == marks[0]
    assert all(mark.startswith("policy ") and len(mark) == len("policy ") + 16 for mark in marks)
    with_other_roles = replace(CLINIC, authorized=tuple(replace(a, role="other") for a in CLINIC.authorized))
    assert render(with_other_roles).mark == marks[0], "the rules are the same"


def test_only_the_first_rule_has_the_mark_as_its_comment() -> None:
    ruleset = render(CLINIC)
    rules = [item["rule"] for item in ruleset.contents() if "rule" in item]
    assert [rule.get("comment") for rule in rules] == [ruleset.mark, *[None] * (len(rules) - 1)]
    assert [line for line in ruleset_text(ruleset).splitlines() if "comment" in line] == [
        next(line for line in ruleset_text(ruleset).splitlines() if f'comment "{ruleset.mark}"' in line)
    ]


def test_the_commands_create_each_object_before_they_refer_to_it() -> None:
    created: set[str] = set()
    for command in render(EVERYTHING).commands():
        ((kind, body),) = command["add"].items()
        for name in referred(body.get("expr", [])):
            assert name in created, f"{kind} refers to {name}"
        if kind == "element":
            assert body["name"] in created
        created.add(body.get("name", ""))


# -- text

PORT = {"payload": {"protocol": "tcp", "field": "dport"}}
STATE = {"ct": {"key": "state"}}
ONE = {"ct count": {"val": 1}}


def where(left: Json, op: str, right: Json) -> list[Json]:
    return [{"match": {"op": op, "left": left, "right": right}}]


@pytest.mark.parametrize(
    ("statements", "text"),
    [
        (where({"meta": {"key": "iifname"}}, "==", "eth0"), 'iifname "eth0"'),
        (where({"meta": {"key": "oifname"}}, "!=", "@ports"), "oifname != @ports"),
        (where({"meta": {"key": "l4proto"}}, "==", "tcp"), "meta l4proto tcp"),
        (where({"meta": {"key": "iif"}}, "==", "lo"), "iif lo"),
        (where(PORT, "<=", 9), "tcp dport <= 9"),
        (where(PORT, ">", 9), "tcp dport > 9"),
        (where(STATE, "in", ["new", "related"]), "ct state new,related"),
        ([{"ct count": {"val": 8}}, {"drop": None}], "ct count 8 drop"),
        ([{"ct count": {"val": 8, "inv": True}}, {"return": None}], "ct count over 8 return"),
        ([{"jump": {"target": "x"}}], "jump x"),
        ([{"goto": {"target": "x"}}, {"comment": "why"}], 'goto x comment "why"'),
        ([{"set": {"op": "add", "elem": "a", "set": "@s", "stmt": [ONE]}}], "add @s { a ct count 1 }"),
        ([{"mangle": {"key": 1}}], '{"mangle": {"key": 1}}'),
    ],
)  # fmt: skip
def test_a_rule_is_shown_as_nft_reads_it(statements: list[Json], text: str) -> None:
    assert rule_text(statements) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"elem": {"val": {"concat": ["a", 1]}, "timeout": 5}}, "a . 1"),
        ({"set": [1, "a", {"range": [2, 3]}]}, "{ 1, a, 2-3 }"),
        ({"|": ["a", "b"]}, '{"|": ["a", "b"]}'),
    ],
)
def test_an_element_is_shown_as_nft_reads_it(value: Json, text: str) -> None:
    assert value_text(value) == text


# -- timeouts


DEFAULTS_S = {
    "tcp_timeout_syn_sent": 120,
    "tcp_timeout_syn_recv": 60,
    "tcp_timeout_established": 432_000,
    "tcp_timeout_fin_wait": 120,
    "tcp_timeout_close_wait": 60,
    "tcp_timeout_last_ack": 30,
    "tcp_timeout_time_wait": 120,
    "tcp_timeout_close": 10,
    "tcp_timeout_max_retrans": 300,
    "tcp_timeout_unacknowledged": 300,
    "udp_timeout": 30,
    "udp_timeout_stream": 120,
    "icmp_timeout": 30,
    "icmpv6_timeout": 30,
    "generic_timeout": 600,
}
"""The kernel's defaults (Documentation/networking/nf_conntrack-sysctl.rst)."""


def test_unused_connections_expire_sooner_than_by_default() -> None:
    assert BOX_S.keys() <= DEFAULTS_S.keys()
    assert all(0 < seconds < DEFAULTS_S[name] for name, seconds in BOX_S.items())


def test_every_cause_of_a_refusal_has_a_counter_and_a_rule() -> None:
    ruleset = render(EVERYTHING)
    counted = {
        statement["counter"]
        for chain in ruleset.chains
        for rule in chain.rules
        for statement in rule
        if "counter" in statement
    }
    assert counted == set(names.CAUSES) == set(ruleset.counters)


# -- sessions


@pytest.mark.parametrize(
    ("staff", "port", "instrument", "desktop", "reason"),
    [
        ("10.99.1.2", 1, "10.77.1.5", 5900, ""),
        ("fd00:99::2", 1, "fd00:77:1::5", 5900, ""),
        ("10.77.1.1", 1, "10.77.1.5", 5900, ""),  # the box's own address, for a bridged desktop
        ("10.99.1.2", THE_BOX, "10.98.0.1", 5900, ""),
        ("10.98.0.1", 1, "10.77.1.5", 5900, "10.98.0.1 is not a staff address"),
        ("10.98.0.1", THE_BOX, "10.98.0.1", 5900, "10.98.0.1 is not a staff address"),
        ("10.77.2.1", 1, "10.77.1.5", 5900, "10.77.2.1 is not a staff address"),
        ("fd00:99::2", 1, "10.77.1.5", 5900, "10.77.1.5 cannot be an instrument on port 1"),
        ("10.99.1.2", 1, "10.77.2.5", 5900, "10.77.2.5 cannot be an instrument on port 1"),
        ("10.99.1.2", 1, "10.77.1.5", 5901, "tcp/5901 is not a desktop service of port 1"),
        ("10.99.1.2", 2, "10.77.2.5", 5900, "desktop services: nothing"),
        ("10.99.1.2", 3, "10.77.1.5", 5900, "port 3 is not in use; ports in use: 1, 2"),
        ("10.99.1.2", THE_BOX, "10.77.1.1", 5900, "10.77.1.1 is not the box's own address"),
        ("10.99.1.2", THE_BOX, "10.98.0.1", 5901, "tcp/5901 is not a desktop service of any port"),
    ],
)
def test_a_policy_permits_only_sessions_of_staff_with_an_instruments_desktop(
    staff: str, port: int, instrument: str, desktop: int, reason: str
) -> None:
    session = Session(ip_address(staff), port, ip_address(instrument), Service("tcp", desktop))
    stated = why_not_permitted(CLINIC, session)
    assert reason in stated and bool(reason) == bool(stated)
