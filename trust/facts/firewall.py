"""The firewall: the kernel's ruleset, or the ruleset for the policy, and the connections that it permits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from netfw.policy.policy import Policy
from netfw.ruleset import listing
from netfw.ruleset.names import CONNECTIONS, FAMILY, LOGGED, TABLE
from netfw.ruleset.render import render
from trust.evidence import Evidence
from trust.fact import Fact, fact, names
from trust.machine import ExaminedBox
from trust.policy_evidence import policy_of

VOLATILE: Final = frozenset({CONNECTIONS, LOGGED})
"""Sets whose elements change while the ruleset is unchanged."""


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield the ruleset, the other tables, and the connections that the policy permits."""
    policy_evidence = policy_of(machine)
    kernel = machine.command("nft", "-j", "list", "ruleset")
    if kernel is not None:
        yield from _of_kernel(kernel)
    elif policy_evidence:
        policy, evidence = policy_evidence
        yield fact("firewall.rules", listing.lines(listing.of_ruleset(render(policy)), VOLATILE), *evidence)
        enabled = machine.paths("/etc/systemd/system/*.wants/*")
        filters = any(path.endswith("/firewalld.service") for path in names(enabled))
        others = ["inet firewalld"] if filters else []
        yield fact("firewall.other-tables", others, enabled)
    if policy_evidence:
        policy, evidence = policy_evidence
        yield fact("policy.outbound", _outbound(policy), *evidence)
        yield fact("policy.inbound", _inbound(policy), *evidence)
        yield fact("policy.uplink", (policy.uplink,), *evidence)


def _of_kernel(kernel: Evidence) -> Iterator[Fact]:
    objects: list[dict[str, Any]] = json.loads(kernel.text).get("nftables", [])
    tables, own = [], []
    for entry in objects:
        ((kind, body),) = entry.items()
        if kind == "table" and (body["family"], body["name"]) != (FAMILY, TABLE):
            tables.append(f"{body['family']} {body['name']}")
        elif kind == "table" or (body.get("family"), body.get("table")) == (FAMILY, TABLE):
            own.append(entry)
    yield fact("firewall.rules", listing.lines(listing.of_objects(own), VOLATILE), kernel)
    yield fact("firewall.other-tables", sorted(tables), kernel)


def _outbound(policy: Policy) -> list[str]:
    """Return "role protocol/port address" for each destination; IKE and ESP for gateways."""
    rows = []
    for entry in policy.authorized:
        services = [str(service) for service in entry.services] or ["udp/500", "udp/4500", "esp"]
        rows += [f"{entry.role} {service} {network}" for network in entry.networks for service in services]
    if policy.uses_dhcp:
        rows.append("dhcp udp/67 any")
    return sorted(rows)


def _inbound(policy: Policy) -> list[str]:
    """Return "port N interface address protocol/port" for each service that an instrument reaches."""
    rows = []
    for port in policy.ports:
        for own in port.addresses:
            rows += [f"port {port.number} {port.interface} {own} {service}" for service in port.services]
    return rows
