# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Renders a policy as a ruleset: a pure function that returns libnftables JSON.

There is one table, `inet rap`, for both IP versions. Its four base chains drop what they do not accept. Their last
rule also drops, because with only a chain's policy, packets pass while a table is being replaced.

    prerouting   before connection tracking: checks that the source address belongs to the interface
    input        to the box: answers to its requests, and the services of the receiving port, with a limit on the
                 connections of each port; in bridged sessions, also requests from staff and answers from instruments
    forward      through the box: only sessions, looked up in both directions, so that established connections end
                 with the session's element
    output       from the box: answers to instruments, and authorized addresses; in bridged sessions, also
                 requests to instruments and answers to staff

Everything that grows with the policy is in sets (`netfw.ruleset.sets`); there are never more than RULES_MAX rules.
Each refused packet is counted under one cause (`netfw.ruleset.names`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from netfw.policy.policy import Policy
from netfw.ruleset import names
from netfw.ruleset import sets as s
from netfw.ruleset.nft_json import (
    ACCEPT,
    DPORT,
    DROP,
    HOP_LIMIT,
    ICMPV6_TYPE,
    IIFNAME,
    OIFNAME,
    PROTOCOL,
    REJECT,
    SPORT,
    Json,
    Rule,
    Statement,
    any_of,
    by,
    concat,
    count,
    daddr,
    direction,
    errors,
    goto,
    log,
    named,
    not_a_first_segment,
    refuse,
    saddr,
    state,
    too_many,
    where,
    where_not,
)
from netfw.ruleset.sets import Set

RULES_MAX: Final = 54

RAW: Final = -300
"""Priority between defragmentation (-400) and connection tracking (-200): complete packets, not yet tracked."""
FILTER: Final = 0
"""Priority before firewalld's chains (+10), which may still drop what is accepted here."""

_LINK_LOCAL: Final[Json] = {"prefix": {"addr": "fe80::", "len": 10}}


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; base chains have a hook, others are jump targets."""

    name: str
    rules: tuple[Rule, ...]
    hook: str = ""
    priority: int = FILTER


@dataclass(frozen=True)
class Ruleset:
    """The table without transient content: sessions, handles, counter values."""

    counters: tuple[str, ...]
    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]
    desktops: tuple[Json, ...] = ()
    """The services that a session may reach; no rule has them, but the mark depends on them."""

    @cached_property
    def mark(self) -> str:
        """The first rule's comment, which identifies the policy to programs that find the ruleset in force."""
        content = json.dumps([*self.declarations(), *self._elements(), *self._rules(), *self.desktops])
        return names.MARK + hashlib.sha256(content.encode()).hexdigest()[:16]

    def declarations(self) -> Iterator[Json]:
        """Yield the table, its counters, its sets without elements, and its chains without rules."""
        yield {"table": {"family": names.FAMILY, "name": names.TABLE}}
        for counter in self.counters:
            yield {"counter": _ours(name=counter)}
        for declared in self.sets:
            more: Json = {"size": declared.size} if declared.size is not None else {}
            more |= {"timeout": declared.timeout} if declared.timeout is not None else {}
            flags: Json = {"flags": list(declared.flags)} if declared.flags else {}
            yield {"set": _ours(name=declared.name, type=declared.kind, **more, **flags)}
        for chain in self.chains:
            hook: Json = {"type": "filter", "hook": chain.hook, "prio": chain.priority, "policy": "drop"}
            yield {"chain": _ours(name=chain.name, **(hook if chain.hook else {}))}

    def contents(self) -> Iterator[Json]:
        """Yield the elements of the sets, and the rules in order."""
        yield from self._elements()
        first, *others = self._rules()
        yield {"rule": first["rule"] | {"comment": self.mark}}
        yield from others

    def _elements(self) -> Iterator[Json]:
        for declared in self.sets:
            if declared.elements:
                yield {"element": _ours(name=declared.name, elem=list(declared.elements))}

    def _rules(self) -> Iterator[Json]:
        for chain in self.chains:
            for rule in chain.rules:
                yield {"rule": _ours(chain=chain.name, expr=list(rule))}

    @property
    def volatile(self) -> frozenset[str]:
        """Names of the sets whose elements change while the ruleset stays the same."""
        return frozenset(each.name for each in self.sets if each.counts or "timeout" in each.flags)

    def commands(self) -> list[Json]:
        """Return the commands that create the table from nothing."""
        return [{"add": each} for each in (*self.declarations(), *self.contents())]


def _ours(**more: Json) -> Json:
    return {"family": names.FAMILY, "table": names.TABLE, **more}


def render(policy: Policy) -> Ruleset:
    """Return the ruleset of a policy."""
    chains = (
        Chain("prerouting", tuple(_prerouting(policy)), "prerouting", RAW),
        Chain("input", tuple(_input(policy)), "input"),
        Chain("forward", tuple(_forward(policy)), "forward"),
        Chain("output", tuple(_output(policy)), "output"),
        Chain(names.OUTSIDE, tuple(_refusal(names.OUTSIDE, REJECT if policy.rejects_outside else DROP))),
        *([Chain(names.TUNNEL, tuple(_refusal(names.TUNNEL)))] if policy.tunnel else ()),
    )
    desktops = tuple(concat(port.interface, *service) for port in policy.ports for service in port.desktop)
    return Ruleset(names.CAUSES, tuple(s.sets(policy)), chains, desktops)


def _prerouting(policy: Policy) -> Iterator[Rule]:
    accepted_advertisements = ["nd-router-advert"] if policy.accept_router_advertisements else []
    neighbours = ["mld-listener-query", "nd-neighbor-solicit", "nd-neighbor-advert", *accepted_advertisements]
    uplink = where(IIFNAME, policy.uplink)
    # Before tracking, which would classify a redirect as RELATED to the connection that it quotes, from any sender.
    refused_icmp = where(concat(IIFNAME, PROTOCOL, SPORT), named(s.REFUSED_ICMP))
    yield refuse(names.LINK, where(PROTOCOL, any_of("icmp", "ipv6-icmp")), refused_icmp)
    # Accepting rules come before other refusals: an open session's packets take one lookup here.
    for version in (4, 6):
        yield where(concat(IIFNAME, saddr(version)), named(s.SOURCES[version])), ACCEPT
    for version in (4, 6):
        yield uplink, where_not(saddr(version), named(s.INSIDE[version])), ACCEPT
    yield refuse(names.UNUSED, where_not(IIFNAME, named(s.INTERFACES)))
    if policy.uses_dhcp:  # DHCPv6 servers reply from link-local addresses
        key = concat(saddr(6), PROTOCOL, SPORT, DPORT)
        yield uplink, where(saddr(6), _LINK_LOCAL), where(key, named(s.PEERS[6])), ACCEPT
    # A link-local address is accepted for neighbour discovery (RFC 4861, RFC 4862) only.
    link = any_of("::", _LINK_LOCAL)
    yield where(saddr(6), link), where(ICMPV6_TYPE, any_of(*neighbours)), ACCEPT
    # Multicast traffic (listener reports, mDNS, DHCPv6) is normal, so it has a separate cause.
    yield refuse(names.LINK, where(saddr(6), link), where(daddr(6), {"prefix": {"addr": "ff00::", "len": 8}}))
    yield from _refusal(names.SPOOFED)


def _input(policy: Policy) -> Iterator[Rule]:
    uplink = where(IIFNAME, policy.uplink)
    yield where(IIFNAME, "lo"), ACCEPT
    yield refuse(names.INVALID, state("invalid"))
    yield _drop_invalid_beginnings()
    # Hop limit 255: not forwarded by a router, so from a neighbour (RFC 4861, section 7.1). MLD has 1 (RFC 3810).
    received = [(1, "mld-listener-query"), (255, "nd-neighbor-solicit"), (255, "nd-neighbor-advert")]
    received += [(255, "nd-router-advert")] if policy.accept_router_advertisements else []
    yield _neighbours(received)
    if s.has_peers(policy):
        for version in (4, 6):
            key = concat(saddr(version), PROTOCOL, SPORT, DPORT)
            yield uplink, where(key, named(s.PEERS[version])), ACCEPT
    yield where(IIFNAME, policy.authorized_interface), state("established"), direction("reply"), ACCEPT
    yield state("related"), errors(), ACCEPT
    yield refuse(names.CROWDED, where(IIFNAME, named(s.PORTS)), state("new"), too_many())
    if policy.tunnel and policy.tunnel.address:
        version = policy.tunnel.address.version
        yield _request(IIFNAME, where(IIFNAME, policy.tunnel.interface), version)
        yield _reply(IIFNAME, where(IIFNAME, named(s.PORTS)), version)
    for version in (4, 6):
        key = concat(IIFNAME, daddr(version), PROTOCOL, DPORT)
        yield state("established", "new"), where(key, named(s.SERVICES[version])), ACCEPT
    yield _unless_instrument(policy)
    yield from _refusal(names.INSTRUMENT)


def _forward(policy: Policy) -> Iterator[Rule]:
    if policy.tunnel:
        yield _drop_invalid_beginnings()
        for version in (4, 6):
            yield from _session(policy.tunnel.interface, version)
    yield _unless_instrument(policy)
    yield log(names.INSTRUMENT)
    outside = any_of(*policy.outside) if policy.vpn else policy.uplink
    yield refuse(names.LEAVING, where(OIFNAME, outside))
    yield refuse(names.CROSSING)


def _session(tunnel: str, version: int) -> Iterator[Rule]:
    """Yield the rules of a session's two directions, which look up the same element."""
    yield _request(OIFNAME, where(IIFNAME, tunnel), version)
    yield _reply(IIFNAME, where(OIFNAME, tunnel), version)


def _request(interface: Json, zone: Statement, version: int) -> Rule:
    """Accept packets of an open session to the desktop, whose `interface` is in the element."""
    key = concat(saddr(version), interface, daddr(version), PROTOCOL, DPORT)
    open_ = where(key, named(names.SESSIONS[version]))
    return zone, state("established", "new"), direction("original"), open_, ACCEPT


def _reply(interface: Json, zone: Statement, version: int) -> Rule:
    """Accept packets of an open session from the desktop, whose `interface` is in the element."""
    key = concat(daddr(version), interface, saddr(version), PROTOCOL, SPORT)
    open_ = where(key, named(names.SESSIONS[version]))
    return zone, state("established"), direction("reply"), open_, ACCEPT


def _output(policy: Policy) -> Iterator[Rule]:
    uplink = where(OIFNAME, policy.uplink)
    yield where(OIFNAME, "lo"), ACCEPT
    sent = [(1, "mld-listener-report"), (1, "mld-listener-done"), (1, "mld2-listener-report")]
    sent += [(255, "nd-neighbor-solicit"), (255, "nd-neighbor-advert")]
    sent += [(255, "nd-router-solicit")] if policy.accept_router_advertisements else []
    yield _neighbours(sent)
    yield state("related"), errors(), ACCEPT
    yield where(OIFNAME, named(s.PORTS)), state("established"), direction("reply"), ACCEPT
    if policy.tunnel and policy.tunnel.address:
        version = policy.tunnel.address.version
        yield _request(OIFNAME, where(OIFNAME, named(s.PORTS)), version)
        yield _reply(OIFNAME, where(OIFNAME, policy.tunnel.interface), version)
    if s.has_peers(policy):
        for version in (4, 6):
            key = concat(daddr(version), PROTOCOL, DPORT, SPORT)
            yield uplink, where(key, named(s.PEERS[version])), ACCEPT
    for version in (4, 6):
        for authorized in (s.AUTHORIZED, s.AUTHORIZED_NETWORKS):
            key = concat(daddr(version), PROTOCOL, DPORT)
            yield where(OIFNAME, policy.authorized_interface), where(key, named(authorized[version])), ACCEPT
    yield log(names.EGRESS, came_in=False)
    yield refuse(names.EGRESS, verdict=REJECT)  # the box's own programs should get an error at once


def _drop_invalid_beginnings() -> Rule:
    return refuse(names.INVALID, state("new"), *not_a_first_segment())


def _neighbours(messages: Iterable[tuple[int, str]]) -> Rule:
    """Accept messages of neighbour and multicast listener discovery, each with its required hop limit."""
    allowed = any_of(*(concat(hops, message) for hops, message in messages))
    return where(concat(HOP_LIMIT, ICMPV6_TYPE), allowed), ACCEPT


def _unless_instrument(policy: Policy) -> Rule:
    """Handle packets from outside and from the tunnel in separate chains; others are from instruments."""
    elsewhere: dict[str, Statement] = {interface: goto(names.OUTSIDE) for interface in policy.outside}
    if policy.tunnel:
        elsewhere[policy.tunnel.interface] = goto(names.TUNNEL)
    return (by(IIFNAME, elsewhere),)


def _refusal(cause: str, verdict: Statement = DROP) -> Iterator[Rule]:
    yield log(cause)
    yield (count(cause), verdict)
