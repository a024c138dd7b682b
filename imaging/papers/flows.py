"""The data flows of a box: source, target, purpose, protection, and the boundaries that they cross.

They are computed from the facts of the papers; the diagram and the threat model are derived from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from trust.fact import Fact

Zone: TypeAlias = Literal["instruments", "box", "hospital", "outside"]
ZONES: Final[dict[Zone, str]] = {
    "instruments": "Instrument ports",
    "box": "Box",
    "hospital": "Hospital network",
    "outside": "Manufacturer, over the Internet",
}
ROLES: Final[dict[str, tuple[str, Zone, str, str]]] = {
    "datacenter": ("Data center", "outside", "reports, alerts, commands, files", "TLS, both certificates"),
    "proxy": ("Proxy", "hospital", "TLS to the data center", "TLS inside, end to end"),
    "time": ("Time servers", "hospital", "time", "none (NTP)"),
    "names": ("Name servers", "hospital", "names of servers", "none (DNS)"),
    "audit-log": ("Audit server", "hospital", "audit records", "TLS, the server's name"),
    "laboratory-host": (
        "Laboratory's host",
        "hospital",
        "results of instruments",
        "none (instrument's standard)",
    ),
    "gateway": ("VPN gateway", "hospital", "all of the box's connections", "IPsec"),
    "dhcp": ("DHCP servers", "hospital", "the box's address", "none (DHCP)"),
}
"""Name, zone, content and protection of a flow, by the destination's role in the firewall policy."""


@dataclass(frozen=True)
class Flow:
    """A connection from the party `source` to the party `target`; `services` are ports such as "tcp/443"."""

    source: str
    target: str
    content: str
    protection: str
    services: tuple[str, ...]
    zones: tuple[Zone, Zone]


def flows(facts: Mapping[str, Fact]) -> list[Flow]:
    """Return the flows that the facts show; most of them need the firewall's policy."""
    return [*_inbound(facts), *_outbound(facts), *_sessions(facts)]


def _values(facts: Mapping[str, Fact], key: str) -> tuple[str, ...]:
    return facts[key].values if key in facts else ()


def _inbound(facts: Mapping[str, Fact]) -> Iterator[Flow]:
    speaking = _values(facts, "box.instruments")
    services: dict[str, list[str]] = {}
    for row in _values(facts, "policy.inbound"):
        _port, number, _interface, _address, service = row.split(" ", 4)
        services.setdefault(number, []).append(service)
    for number, offered in services.items():
        here = [row.split()[2] for row in speaking if row.startswith(f"port {number} ")]
        party = f"Port {number}: {', '.join(here) or 'no instrument'}"
        plain = any(row.startswith(f"port {number} ") and " speaks " in row for row in speaking)
        how = "none (instrument's standard)" if plain else "TLS, both certificates"
        yield Flow(party, "Box", "reports", how, tuple(offered), ("instruments", "box"))


def _outbound(facts: Mapping[str, Fact]) -> Iterator[Flow]:
    services: dict[str, list[str]] = {}
    for row in _values(facts, "policy.outbound"):
        role, service, _address = row.split(" ", 2)
        services.setdefault(role, []).append(service)
    for role, used in services.items():
        name, zone, content, how = ROLES[role]
        yield Flow("Box", name, content, how, tuple(dict.fromkeys(used)), ("box", zone))
    if "proxy" in services:
        name, zone, content, how = ROLES["datacenter"]
        center = _values(facts, "box.data-center")
        port = center[0].split(":")[1].split(" ")[0] if center else "443"
        yield Flow("Proxy", name, content, how, (f"tcp/{port}",), ("hospital", zone))


def _sessions(facts: Mapping[str, Fact]) -> Iterator[Flow]:
    if _values(facts, "box.sessions"):
        by_proxy = any(row.startswith("proxy ") for row in _values(facts, "policy.outbound"))
        zones: tuple[Zone, Zone] = ("hospital", "outside") if by_proxy else ("box", "outside")
        service = f"tcp/{_values(facts, 'box.sessions')[0].rpartition(':')[2]}"
        yield Flow(
            "Proxy" if by_proxy else "Box",
            "Data center",
            "remote session, after a person permitted it",
            "VPN with a key for one session",
            (service,),
            zones,
        )
