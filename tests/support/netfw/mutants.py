"""Rulesets of the clinic's policy with one error, as by a manual change or a bug in the rendering.

A mutant names the theorem that must fail. Rules are selected by texts that they contain, not by their position, so
that unrelated changes of the ruleset do not break mutants.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from netfw.policy.policy import Policy
from netfw.ruleset.render import render

OURS = {"family": "inet", "table": "rap"}
ACCEPT, DROP = {"accept": None}, {"drop": None}
LOOPBACK4 = {"concat": ["lo", {"prefix": {"addr": "0.0.0.0", "len": 0}}]}


@dataclass
class Draft:
    """A ruleset that can be edited."""

    commands: list[Any]

    def chain(self, name: str) -> Any:
        return self._object("chain", name)

    def elements(self, name: str) -> Any:
        return self._object("element", name)["elem"]

    def declared(self, name: str) -> Any:
        return self._object("set", name)

    def add(self, name: str, *parts: Any) -> None:
        """Add an element to a set of concatenations."""
        element = {"concat": list(parts)}
        self.commands.append({"add": {"element": {**OURS, "name": name, "elem": [element]}}})

    def rule(self, chain: str, *texts: str) -> Any:
        """Return the statements of the first rule that contains all these texts."""
        return self.commands[self._index(chain, *texts)]["add"]["rule"]["expr"]

    def drop_rule(self, chain: str, *texts: str) -> None:
        del self.commands[self._index(chain, *texts)]

    def first(self, chain: str, *statements: Any) -> None:
        """Insert a rule before all others of the chain."""
        index = next(i for i, c in enumerate(self.commands) if c["add"].get("rule", {}).get("chain") == chain)
        rule = {**self.commands[index]["add"]["rule"], "expr": list(statements)}
        self.commands.insert(index, {"add": {"rule": rule}})

    def after(self, chain: str, texts: tuple[str, ...], *statements: Any) -> None:
        """Insert a rule after the first one that contains all these texts."""
        index = self._index(chain, *texts)
        rule = {**self.commands[index]["add"]["rule"], "expr": list(statements)}
        self.commands.insert(index + 1, {"add": {"rule": rule}})

    def without(self, chain: str, rule: tuple[str, ...], text: str) -> None:
        """Remove the statement that contains a text from a rule."""
        statements = self.rule(chain, *rule)
        (index,) = (i for i, statement in enumerate(statements) if text in json.dumps(statement))
        del statements[index]

    def replace(self, chain: str, rule: tuple[str, ...], old: str, new: str) -> None:
        """Change the text of a rule."""
        statements = self.rule(chain, *rule)
        text = json.dumps(statements)
        assert old in text, f"{old} is not in {text}"
        statements[:] = json.loads(text.replace(old, new))

    def verdict(self, chain: str, *texts: str, becomes: Any) -> None:
        self.rule(chain, *texts)[-1] = becomes

    def swap(self, chain: str, one: tuple[str, ...], other: tuple[str, ...]) -> None:
        a, b = self._index(chain, *one), self._index(chain, *other)
        self.commands[a], self.commands[b] = self.commands[b], self.commands[a]

    def change(self, name: str, old: str, new: str) -> None:
        """Change the text of a set's elements."""
        elements = self.elements(name)
        text = json.dumps(elements)
        assert old in text, f"{old} is not in {text}"
        elements[:] = json.loads(text.replace(old, new))

    def _object(self, kind: str, name: str) -> Any:
        return next(c["add"][kind] for c in self.commands if c["add"].get(kind, {}).get("name") == name)

    def _index(self, chain: str, *texts: str) -> int:
        for index, command in enumerate(self.commands):
            rule = command["add"].get("rule")
            if rule and rule["chain"] == chain and all(text in json.dumps(rule["expr"]) for text in texts):
                return index
        raise AssertionError(f"no rule of {chain} has {texts}")


class Mutant(NamedTuple):
    """A ruleset of `policy`, a file in policies/, with one error, for which `theorem` must fail."""

    name: str
    theorem: str
    edit: Callable[[Draft], Any]
    policy: str = "clinic"

    def commands(self, policy: Policy) -> list[Any]:
        """Return the commands that load the ruleset with this error."""
        draft = Draft(copy.deepcopy(render(policy).commands()))
        self.edit(draft)
        return draft.commands


def match(left: Any, right: Any) -> Any:
    return {"match": {"op": "==", "left": left, "right": right}}


def prefix(address: str, length: int) -> Any:
    return {"prefix": {"addr": address, "len": length}}


def state(*states: str) -> Any:
    return {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": list(states)}}


def at(interface: str) -> Any:
    return match({"meta": {"key": "iifname"}}, interface)


def to(interface: str) -> Any:
    return match({"meta": {"key": "oifname"}}, interface)


def payload(protocol: str, field: str, value: Any) -> Any:
    return match({"payload": {"protocol": protocol, "field": field}}, value)


REPLY = ("enp1s0", "established", "reply")
THERE4, BACK4 = ("original", "@sessions4"), ("reply", "@sessions4")
MUTANTS = [
    # before connection tracking
    Mutant("no anti-spoofing", "spoofed", lambda d: d.first("prerouting", ACCEPT)),
    Mutant(
        "final drop of prerouting became accept",
        "spoofed",
        lambda d: d.verdict("prerouting", '"spoofed"}', becomes=ACCEPT),
    ),
    Mutant(
        "packets from unused interfaces accepted",
        "unused",
        lambda d: (d.drop_rule("prerouting", "@interfaces"), d.first("prerouting", at("enp4s0"), ACCEPT)),
    ),
    Mutant(
        "unused interface added",
        "unused",
        lambda d: (
            d.elements("interfaces").append("enp4s0"),
            d.elements("sources4").append(
                {"concat": ["enp4s0", {"prefix": {"addr": "10.77.1.0", "len": 24}}]}
            ),
        ),
    ),
    Mutant(
        "sources of /24 became /23",
        "spoofed",
        lambda d: d.change(
            "sources4", '{"range": ["10.77.2.2", "10.77.2.254"]}', '{"range": ["10.77.2.2", "10.77.3.254"]}'
        ),
    ),
    Mutant(
        "the box's own address as a source",
        "spoofed",
        lambda d: d.change("sources4", "10.77.1.2", "10.77.1.1"),
    ),
    Mutant(
        "sources without their interface",
        "spoofed",
        lambda d: d.first(
            "prerouting", payload("ip", "saddr", {"prefix": {"addr": "10.77.1.0", "len": 24}}), ACCEPT
        ),
    ),
    Mutant(
        "staff addresses accepted from outside",
        "spoofed",
        lambda d: d.elements("inside4").remove({"prefix": {"addr": "10.99.0.0", "len": 16}}),
    ),
    Mutant(
        "IPv6 sources of the uplink missing",
        "spoofed",
        lambda d: d.replace("prerouting", ("enp1s0", "@inside6"), '"@inside6"', '"::"'),
    ),
    Mutant(
        "an inside network missing", "spoofed", lambda d: d.change("inside6", "fd00:77:1::", "fd00:78:1::")
    ),
    Mutant(
        "link-local sources for all packets",
        "spoofed",
        lambda d: d.without("prerouting", ("fe80::", "nd-neighbor"), '"type"'),
    ),
    # to the box
    Mutant(
        "input accepts by policy",
        "outside",
        lambda d: (d.chain("input").update(policy="accept"), d.drop_rule("outside", "drop")),
    ),
    Mutant("established in either direction", "outside", lambda d: d.without("input", REPLY, "direction")),
    Mutant("answers accepted everywhere", "instrument", lambda d: d.without("input", REPLY, "iifname")),
    Mutant("outside became accept", "outside", lambda d: d.verdict("outside", "drop", becomes=ACCEPT)),
    Mutant("log turned into accept", "outside", lambda d: d.verdict("outside", "log", becomes=ACCEPT)),
    Mutant(
        "ping from outside",
        "outside",
        lambda d: d.first("input", payload("icmp", "type", "echo-request"), ACCEPT),
    ),
    Mutant("invalid accepted", "outside", lambda d: d.verdict("input", '"invalid"', becomes=ACCEPT)),
    Mutant(
        "services before invalid packets",
        "instrument",
        lambda d: (
            d.without("input", ("@services4",), "state"),
            d.swap("input", ('"invalid"',), ("@services4",)),
        ),
    ),
    Mutant(
        "hop limit not checked",
        "outside",
        lambda d: d.first("input", payload("icmpv6", "type", "nd-neighbor-solicit"), ACCEPT),
    ),
    Mutant(
        "router advertisements accepted",
        "outside",
        lambda d: (
            d.first("input", payload("icmpv6", "type", "nd-router-advert"), ACCEPT),
            d.replace(
                "prerouting", ("nd-neighbor-advert",), '"nd-neighbor', '"nd-router-advert", "nd-neighbor'
            ),
            d.drop_rule("prerouting", "@refused_icmp"),
        ),
    ),
    Mutant(
        "redirects accepted",
        "outside",
        lambda d: (
            d.drop_rule("prerouting", "@refused_icmp"),
            d.replace("input", ("related",), "[768, 1279]", "[768, 1535]"),
        ),
    ),
    Mutant(
        "source port instead of destination port",
        "instrument",
        lambda d: d.replace("input", ("@services4",), '"dport"', '"sport"'),
    ),
    Mutant(
        "a service of another port",
        "instrument",
        lambda d: d.change(
            "services4", '["enp3s0", "10.77.2.1", "tcp", 2575]', '["enp2s0", "10.77.1.1", "tcp", 2575]'
        ),
    ),
    Mutant(
        "the policy's address replaced",
        "instrument",
        lambda d: d.change("services4", "10.77.1.1", "10.77.2.1"),
    ),
    Mutant(
        "destination not checked",
        "instrument",
        lambda d: d.first("input", state("new"), at("enp2s0"), payload("tcp", "dport", 443), ACCEPT),
    ),
    Mutant(
        "services on UDP too",
        "instrument",
        lambda d: d.elements("services6").append({"concat": ["enp2s0", "fd00:77:1::1", "udp", 443]}),
    ),
    Mutant(
        "final drop of input became accept",
        "instrument",
        lambda d: d.verdict("input", '"instrument"}', becomes=ACCEPT),
    ),
    Mutant(
        "goto became jump, and the end accepts",
        "outside",
        lambda d: (
            d.replace("input", ("vmap",), '"goto"', '"jump"'),
            d.drop_rule("outside", "drop"),
            d.verdict("input", '"instrument"}', becomes=ACCEPT),
        ),
    ),
    Mutant("staff reach the box", "staff", lambda d: d.verdict("tunnel", "drop", becomes=ACCEPT)),
    Mutant("connections begin without SYN", "beginning", lambda d: d.drop_rule("input", "flags")),
    Mutant(
        "connections begin with ACK",
        "beginning",
        lambda d: d.replace("input", ("flags",), '"right": "syn"', '"right": "ack"'),
    ),
    Mutant("connections are not limited", "limited", lambda d: d.drop_rule("input", "@connections")),
    Mutant("a limit too large", "limited", lambda d: d.replace("input", ("@connections",), "256", "25600")),
    Mutant(
        "only one port limited",
        "limited",
        lambda d: d.replace("input", ("@connections",), '"@ports"', '"enp2s0"'),
    ),
    Mutant(
        "limit after the services",
        "limited",
        lambda d: d.swap("input", ("@connections",), ("@services4",)),
    ),
    Mutant(
        "counted and accepted",
        "limited",
        lambda d: d.verdict("input", "@connections", becomes={"continue": None}),
    ),
    # through the box
    Mutant(
        "forward accepts by policy",
        "crossing",
        lambda d: (d.chain("forward").update(policy="accept"), d.drop_rule("forward", '"crossing"')),
    ),
    Mutant(
        "final drop of forward became accept",
        "crossing",
        lambda d: d.verdict("forward", '"crossing"', becomes=ACCEPT),
    ),
    Mutant(
        "instruments reach the outside",
        "leaving",
        lambda d: d.verdict("forward", '"leaving"', becomes=ACCEPT),
    ),
    Mutant(
        "established connections forwarded",
        "sessions",
        lambda d: d.first("forward", state("established"), ACCEPT),
    ),
    Mutant(
        "session's answers without session",
        "sessions",
        lambda d: (
            d.drop_rule("forward", *BACK4),
            d.first(
                "forward",
                to("tun-rap"),
                state("established"),
                match({"ct": {"key": "direction"}}, "reply"),
                ACCEPT,
            ),
        ),
    ),
    Mutant(
        "session for any source",
        "sessions",
        lambda d: d.first("forward", at("tun-rap"), to("enp2s0"), payload("tcp", "dport", 5900), ACCEPT),
    ),
    Mutant("session without its direction", "sessions", lambda d: d.without("forward", THERE4, "direction")),
    Mutant(
        "session's addresses swapped",
        "open sessions",
        lambda d: d.replace("forward", THERE4, '"saddr"', '"daddr"'),
    ),
    Mutant(
        "session to a port without a desktop service",
        "elements",
        lambda d: d.commands.append(
            {
                "add": {
                    "element": {
                        "family": "inet",
                        "table": "rap",
                        "name": "sessions4",
                        "elem": [
                            {
                                "elem": {
                                    "val": {"concat": ["10.99.0.5", "enp2s0", "10.77.1.5", "tcp", 22]},
                                    "timeout": 3600,
                                }
                            }
                        ],
                    }
                }
            }
        ),
    ),
    # from the box
    Mutant(
        "output accepts by policy",
        "egress",
        lambda d: (
            d.chain("output").update(policy="accept"),
            d.drop_rule("output", "reject"),
        ),
    ),
    Mutant("reject became accept", "egress", lambda d: d.verdict("output", "reject", becomes=ACCEPT)),
    Mutant(
        "established connections sent", "egress", lambda d: d.first("output", state("established"), ACCEPT)
    ),
    Mutant(
        "authorized on any port",
        "egress",
        lambda d: d.first("output", to("enp1s0"), payload("ip", "daddr", "203.0.113.5"), ACCEPT),
    ),
    Mutant(
        "source port authorized",
        "egress",
        lambda d: d.replace("output", ('"@authorized4"',), '"dport"', '"sport"'),
    ),
    Mutant(
        "an address too many",
        "egress",
        lambda d: d.elements("authorized4").append({"concat": ["203.0.113.6", "tcp", 443]}),
    ),
    Mutant("a wider network", "egress", lambda d: d.change("authorized_networks6", '"len": 64', '"len": 63')),
    Mutant(
        "authorized at any interface",
        "elsewhere",
        lambda d: d.without("output", ('"@authorized4"',), "oifname"),
    ),
    Mutant(
        "the box opens connections to instruments",
        "answers",
        lambda d: d.without("output", ("@ports", "reply"), "direction"),
    ),
    Mutant(
        "the box sends redirects",
        "egress",
        lambda d: d.replace("output", ("related",), "[768, 1279]", "[768, 1535]"),
    ),
    # liveness
    Mutant("everything dropped", "services", lambda d: d.first("input", DROP)),
    Mutant(
        "a service missing",
        "services",
        lambda d: d.elements("services4").remove({"concat": ["enp2s0", "10.77.1.1", "tcp", 443]}),
    ),
    Mutant("IPv6 services missing", "services", lambda d: d.drop_rule("input", "@services6")),
    Mutant(
        "services only for new connections",
        "services",
        lambda d: d.replace("input", ("@services4",), '["established", "new"]', '"new"'),
    ),
    Mutant("answers dropped", "answers in", lambda d: d.drop_rule("input", *REPLY)),
    Mutant("errors dropped", "errors", lambda d: d.drop_rule("input", "related")),
    Mutant(
        "neighbour discovery dropped", "discovery in", lambda d: d.drop_rule("input", "nd-neighbor-solicit")
    ),
    Mutant(
        "an address missing",
        "destinations",
        lambda d: d.elements("authorized4").remove({"concat": ["203.0.113.5", "tcp", 443]}),
    ),
    Mutant(
        "a smaller network",
        "destinations",
        lambda d: d.change("authorized_networks6", '"len": 64', '"len": 65'),
    ),
    Mutant("answers to instruments dropped", "answers out", lambda d: d.elements("ports").remove("enp2s0")),
    Mutant("answers in a session dropped", "open sessions", lambda d: d.drop_rule("forward", *BACK4)),
    Mutant(
        "loopback dropped by the source check",
        "loopback in",
        lambda d: d.elements("sources4").remove(LOOPBACK4),
    ),
    Mutant("a limit too small", "services", lambda d: d.replace("input", ("@connections",), "256", "3")),
    Mutant(
        "a limit inverted",
        "services",
        lambda d: d.replace("input", ("@connections",), ', "inv": true', ""),
    ),
    # with a VPN
    *(
        Mutant(name, theorem, edit, "ipsec")
        for name, theorem, edit in (
            (
                "clear text sent",
                "egress",
                lambda d: d.replace("output", ('"@authorized_networks4"',), '"ipsec1"', '"eno1"'),
            ),
            (
                "clear text accepted",
                "outside",
                lambda d: d.replace("input", ("established", "reply"), '"ipsec1"', '"eno1"'),
            ),
            (
                "instruments spoofed",
                "spoofed",
                lambda d: d.add("sources4", "ipsec1", prefix("10.77.3.0", 24)),
            ),
            ("forwarding into the VPN", "leaving", lambda d: d.first("forward", to("ipsec1"), ACCEPT)),
            (
                "ESP from any address",
                "outside",
                lambda d: d.first("input", match({"meta": {"key": "l4proto"}}, "esp"), ACCEPT),
            ),
            (
                "gateway on any port",
                "egress",
                lambda d: d.change("peers4", '"udp", 500, 500', '"udp", {"range": [0, 65535]}, 500'),
            ),
        )
    ),
    # DHCP
    Mutant(
        "DHCP servers from any port",
        "outside",
        lambda d: d.change("peers4", '"udp", 67, 68', '"udp", {"range": [0, 65535]}, 68'),
        "lease",
    ),
    Mutant(
        "DHCP to any port",
        "egress",
        lambda d: d.change("peers4", '"udp", 67, 68', '"udp", {"range": [0, 65535]}, 68'),
        "lease",
    ),
    Mutant(
        "DHCPv6 from anywhere",
        "outside",
        lambda d: d.change("peers6", '{"addr": "fe80::", "len": 10}', '{"addr": "2000::", "len": 3}'),
        "lease",
    ),
    Mutant(
        "DHCPv6 servers at instrument ports",
        "spoofed",
        lambda d: d.without("prerouting", ("@peers6",), "iifname"),
        "lease",
    ),
    Mutant(
        "DHCP servers at instrument ports",
        "instrument",
        lambda d: d.without("input", ("@peers4",), "iifname"),
        "lease",
    ),
    Mutant(
        "router advertisements accepted at ports",
        "instrument",
        lambda d: d.drop_rule("prerouting", "@refused_icmp"),
        "ipsec",
    ),
]

EQUAL = [
    Mutant(
        "new added to answers, which are never new",
        "",
        lambda d: d.replace("input", REPLY, '"established"', '["established", "new"]'),
    ),
    Mutant(
        "IPv6 services before IPv4 services", "", lambda d: d.swap("input", ("@services4",), ("@services6",))
    ),
    Mutant(
        "a rule after the final drop",
        "",
        lambda d: d.commands.append(
            {"add": {"rule": {"family": "inet", "table": "rap", "chain": "input", "expr": [ACCEPT]}}}
        ),
    ),
    Mutant(
        "a service in a separate rule",
        "",
        lambda d: (
            d.elements("services4").remove({"concat": ["enp2s0", "10.77.1.1", "tcp", 443]}),
            d.after(
                "input",
                ("@connections",),
                state("new", "established"),
                at("enp2s0"),
                payload("ip", "daddr", "10.77.1.1"),
                match(
                    {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["fin", "syn", "rst", "ack"]]},
                    "syn",
                ),
                payload("tcp", "dport", 443),
                ACCEPT,
            ),
            d.first(
                "input",
                state("established"),
                at("enp2s0"),
                payload("ip", "daddr", "10.77.1.1"),
                payload("tcp", "dport", 443),
                ACCEPT,
            ),
        ),
    ),
    Mutant(
        "a network as two halves",
        "",
        lambda d: (
            d.change("authorized_networks6", '"len": 64', '"len": 65'),
            d.add("authorized_networks6", prefix("2001:db8:1:0:8000::", 65), "tcp", 443),
        ),
    ),
    Mutant(
        "direction of untracked packets, which have none",
        "",
        lambda d: d.first(
            "input", state("untracked", "invalid"), match({"ct": {"key": "direction"}}, "original"), ACCEPT
        ),
    ),
    Mutant("without its log", "", lambda d: d.drop_rule("input", "log")),
]
"""Rulesets with other text that treat every packet as the rendered one does."""
