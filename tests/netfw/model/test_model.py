"""The model of a ruleset: each kind of expression, refusal of unsupported content, and lookups in sets."""

from __future__ import annotations

from typing import Any

import pytest

from netfw.model.packet import ACK, ESP, SYN, UDP, PacketError, icmp, ip, parse, tcp, udp
from netfw.model.packet_filter import PacketFilterModel
from netfw.model.rules import RulesetModel
from netfw.model.values import NOT_TRACKED_YET, RulesetError

SECOND_NS = 1_000_000_000
MINE = {"family": "inet", "table": "rap"}
WEB = parse(tcp("10.0.0.5", 5000, "10.0.0.1", 443), iif="eth1")
DNS = parse(udp("10.0.0.5", 5000, "10.0.0.1", 53), iif="eth1")
IP6 = parse(tcp("fd00::5", 5000, "fd00::1", 443), iif="eth2")


def table(
    *rules: list[Any], sets: tuple[Any, ...] = (), chains: dict[str, list[list[Any]]] | None = None
) -> RulesetModel:
    """Return a table with one base chain on input, and optionally others to jump to."""
    commands: list[Any] = [{"table": {"family": "inet", "name": "rap"}}]
    commands += [{"counter": {**MINE, "name": name}} for name in ("one", "two")]
    commands += [{"set": {**MINE, **declared}} for declared in sets]
    base = {"type": "filter", "hook": "input", "prio": 0, "policy": "drop"}
    commands.append({"chain": {**MINE, "name": "input", **base}})
    commands += [{"chain": {**MINE, "name": name}} for name in chains or {}]
    for name, others in {"input": list(rules), **(chains or {})}.items():
        commands += [{"rule": {**MINE, "chain": name, "expr": rule}} for rule in others]
    return RulesetModel({"nftables": commands})


def where(left: Any, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def payload(protocol: str, field: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": field}}


def accepts(match: Any, packet: Any, **more: Any) -> bool:
    verdict = table([match, {"accept": None}], **more).evaluate("input", packet, NOT_TRACKED_YET)
    return verdict.action == "accept"


BOTH = {"concat": [payload("ip", "saddr"), payload("th", "dport")]}
FLAGS = {"&": [payload("tcp", "flags"), ["fin", "syn", "rst", "ack"]]}


@pytest.mark.parametrize(
    ("match", "packet", "holds"),
    [
        (where({"meta": {"key": "iifname"}}, "eth1"), WEB, True),
        (where({"meta": {"key": "iifname"}}, "eth1", "!="), WEB, False),
        (where({"meta": {"key": "l4proto"}}, {"set": ["tcp", "udp"]}), DNS, True),
        (where({"meta": {"key": "nfproto"}}, "ipv6"), IP6, True),
        (where(payload("ip", "saddr"), "10.0.0.5"), WEB, True),
        (where(payload("ip", "saddr"), {"prefix": {"addr": "10.0.0.0", "len": 30}}), WEB, False),
        (where(payload("ip", "saddr"), {"range": ["10.0.0.5", "10.0.0.9"]}), WEB, True),
        (where(payload("ip", "saddr"), "10.0.0.9", "!="), IP6, False),  # an IPv6 packet has no IPv4 address to differ
        (where(payload("tcp", "dport"), 443), WEB, True),
        (where(payload("tcp", "dport"), 53, "!="), DNS, False),
        (where(payload("th", "dport"), 53), DNS, True),
        (where(payload("th", "dport"), 1023, "<="), DNS, True),
        (where(FLAGS, "syn"), WEB, True),
        (where(FLAGS, "syn", "!="), WEB, False),
        (where({"ct": {"key": "state"}}, ["invalid", "new"], "in"), WEB, True),
        (where({"ct": {"key": "direction"}}, "original"), WEB, False),
        (where(BOTH, {"set": [{"concat": ["10.0.0.5", 443]}]}), WEB, True),
    ],
)  # fmt: skip
def test_a_match_holds_as_in_the_kernel(match: Any, packet: Any, holds: bool) -> None:
    assert accepts(match, packet) is holds


@pytest.mark.parametrize(
    "statement",
    [
        {"match": {"op": "==", "left": {"socket": {"key": "transparent"}}, "right": 1}},
        where({"meta": {"key": "cpu"}}, 1),
        where(payload("ip", "tos"), 0),
        where({"ct": {"key": "mark"}}, 1),
        where({"meta": {"key": "iifname"}}, "eth*"),
        where(payload("ip", "saddr"), "fd00::1"),
        where(payload("tcp", "dport"), "no-such-service"),
        where(payload("tcp", "dport"), "@nothing"),
        {"counter": "three"},
        {"notrack": None},
        {"jump": {"target": "nowhere"}},
    ],
)
def test_an_unknown_expression_is_an_error(statement: Any) -> None:
    with pytest.raises(RulesetError):
        table([statement])


def test_a_verdict_after_a_limit_is_refused_because_it_depends_on_time() -> None:
    table([{"limit": {"rate": 1, "per": "second"}}, {"log": {"prefix": "x"}}])
    with pytest.raises(RulesetError, match="limit"):
        table([{"limit": {"rate": 1, "per": "second"}}, {"accept": None}])


def test_jumps_return_and_gotos_do_not() -> None:
    chains = {"aside": [[{"counter": "one"}]]}
    jump = table([{"jump": {"target": "aside"}}], [{"counter": "two"}, {"accept": None}], chains=chains)
    assert jump.evaluate("input", WEB, NOT_TRACKED_YET)[:2] == ("accept", ("one", "two"))
    without_return = table(
        [{"goto": {"target": "aside"}}], [{"counter": "two"}, {"accept": None}], chains=chains
    )
    assert without_return.evaluate("input", WEB, NOT_TRACKED_YET)[:2] == ("drop", ("one",))


def test_a_verdict_map_decides_or_evaluation_continues() -> None:
    key = {"meta": {"key": "iifname"}}
    model = table(
        [{"vmap": {"key": key, "data": {"set": [["eth1", {"accept": None}]]}}}], [{"counter": "one"}]
    )
    assert model.evaluate("input", WEB, NOT_TRACKED_YET)[:2] == ("accept", ())
    assert model.evaluate("input", IP6, NOT_TRACKED_YET)[:2] == ("drop", ("one",))


def test_named_sets_can_contain_elements_ranges_and_prefixes() -> None:
    kind = ["ifname", "ipv4_addr", "inet_service"]
    elements = [
        {"concat": ["eth1", {"prefix": {"addr": "10.1.0.0", "len": 16}}, 443]},
        {"concat": ["eth1", {"range": ["10.0.0.3", "10.0.0.6"]}, {"range": [400, 500]}]},
        {"concat": ["eth1", "192.0.2.1", 443]},
    ]
    declared = {"name": "some", "type": kind, "flags": ["interval"], "elem": elements}
    left = {"concat": [{"meta": {"key": "iifname"}}, payload("ip", "saddr"), payload("th", "dport")]}

    def contains(source: str, port: int) -> bool:
        packet = parse(tcp(source, 5000, "10.0.0.1", port), iif="eth1")
        return accepts(where(left, "@some"), packet, sets=(declared,))

    assert contains("10.1.255.255", 443)
    assert not contains("10.2.0.0", 443)
    assert not contains("10.1.0.0", 444)
    assert contains("10.0.0.6", 500)
    assert not contains("10.0.0.7", 500)
    assert contains("192.0.2.1", 443)


def test_an_element_ends_at_its_timeout_or_when_it_is_deleted() -> None:
    commands = [
        {"table": {"family": "inet", "name": "rap"}},
        {"set": {**MINE, "name": "open", "type": "ipv4_addr", "flags": ["timeout"]}},
        {"chain": {**MINE, "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
        {
            "rule": {
                **MINE,
                "chain": "input",
                "expr": [where(payload("ip", "saddr"), "@open"), {"accept": None}],
            }
        },
    ]
    packet_filter = PacketFilterModel(commands)
    element = {"elem": {"val": "10.0.0.5", "timeout": 10}}
    assert packet_filter.receive(WEB, 0).action == "drop"
    packet_filter.open("open", element, 5 * SECOND_NS)
    assert packet_filter.receive(WEB, 15 * SECOND_NS - 1).action == "accept"
    assert packet_filter.receive(WEB, 15 * SECOND_NS).action == "drop"
    packet_filter.open("open", element, 20 * SECOND_NS)
    packet_filter.close("open", element)
    assert packet_filter.receive(WEB, 21 * SECOND_NS).action == "drop"


def test_chains_of_one_hook_run_in_order_of_priority() -> None:
    late = {"type": "filter", "hook": "input", "prio": 10, "policy": "drop"}
    early = {"type": "filter", "hook": "input", "prio": "raw", "policy": "accept"}
    model = RulesetModel(
        [
            {"table": {"family": "inet", "name": "rap"}},
            *({"counter": {**MINE, "name": name}} for name in ("one", "two")),
            {"chain": {**MINE, "name": "late", **late}},
            {"chain": {**MINE, "name": "early", **early}},
            {"rule": {**MINE, "chain": "late", "expr": [{"counter": "two"}]}},
            {"rule": {**MINE, "chain": "early", "expr": [{"counter": "one"}, {"accept": None}]}},
        ]
    )
    assert model.evaluate("input", WEB, NOT_TRACKED_YET) == ("drop", ("one", "two"), "input")


def test_packets_that_the_ip_layer_discards_reach_no_chain() -> None:
    good = tcp("10.0.0.5", 1, "10.0.0.1", 2)
    wrong = [
        b"",
        b"\x50" + good[1:],
        good[:-1],
        good[:10] + b"\0\0" + good[12:],
        good[:19],
        tcp("fd00::1", 1, "fd00::2", 2)[:-1],
    ]
    for data in wrong:
        with pytest.raises(PacketError):
            parse(data)
    assert parse(good + b"padding").data == good


def test_rules_and_tracking_read_an_authentication_header_differently() -> None:
    segment = tcp("fd00::1", 1, "fd00::2", 443)[40:]
    packet = parse(ip("fd00::1", "fd00::2", 51, bytes((6, 1)) + bytes(10) + segment))
    assert (packet.l4proto, packet.tracked_proto) == (51, 6)


def test_packet_builders_agree_with_scapy() -> None:
    from scapy.layers.inet import ICMP, IP, TCP
    from scapy.layers.inet import UDP as Udp
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

    segment = TCP(sport=1, dport=2, seq=3, ack=4, flags="SA", window=5) / b"odd"
    ours = tcp("10.0.0.5", 1, "10.0.0.1", 2, SYN | ACK, seq=3, ack=4, window=5, payload=b"odd")
    assert ours == bytes(IP(src="10.0.0.5", dst="10.0.0.1", id=0) / segment)
    assert udp("fd00::1", 7, "fd00::2", 9, b"x") == bytes(
        IPv6(src="fd00::1", dst="fd00::2") / Udp(sport=7, dport=9) / b"x"
    )
    assert icmp("10.0.0.5", "10.0.0.1", 8, rest=b"\0\1\0\2") == bytes(
        IP(src="10.0.0.5", dst="10.0.0.1", id=0) / ICMP(type=8, id=1, seq=2)
    )
    assert icmp("fd00::1", "fd00::2", 128, rest=b"\0\1\0\2") == bytes(
        IPv6(src="fd00::1", dst="fd00::2") / ICMPv6EchoRequest(id=1, seq=2)
    )
    assert ip("10.0.0.5", "10.0.0.1", ESP, b"", hops=9) == bytes(
        IP(src="10.0.0.5", dst="10.0.0.1", id=0, ttl=9, proto=ESP)
    )
    assert parse(ours).l4proto != UDP
