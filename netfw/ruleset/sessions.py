# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Remote sessions as set elements of the ruleset, with and without their remaining time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from netfw.policy.policy import SESSION_SECONDS_MAX, Address, Policy, PolicyPort, PolicyTunnel, Service
from netfw.ruleset.names import FAMILY, SESSIONS, TABLE
from netfw.ruleset.nft_json import Json, concat

THE_BOX: Final = 0
"""Instead of a port's number: the path ends at the box's own address in the tunnel."""


@dataclass(frozen=True, slots=True)
class Session:
    """A path from one staff address to one service of one instrument.

    A bridged desktop has two: from staff to the box (port THE_BOX, with the box's address instead of the
    instrument's), and from the box to the instrument (with the box's address at the port instead of the staff's).
    """

    staff: Address
    port: int
    instrument: Address
    desktop: Service


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session in the kernel's set, with its interface and remaining time."""

    session: Session
    interface: str
    seconds_left: int

    def element(self) -> Json:
        """Return the set element with its timeout."""
        value = {"elem": {"val": _key(self.session, self.interface), "timeout": self.seconds_left}}
        return session_element(self.session.staff.version, value)


def interface_of(policy: Policy, session: Session) -> str | None:
    """Return the interface of the path's end; None if the policy has none."""
    if session.port == THE_BOX:
        return policy.tunnel.interface if policy.tunnel else None
    port = policy.port(session.port)
    return port.interface if port else None


def why_not_permitted(policy: Policy, session: Session, seconds: int = 1) -> str:
    """Return why the policy does not permit the session for this time, or ""."""
    if policy.tunnel is None:
        return "the policy has no [tunnel], so it permits no sessions"
    if not 1 <= seconds <= SESSION_SECONDS_MAX:
        return f"{seconds} s: a session lasts from 1 to {SESSION_SECONDS_MAX} seconds"
    if session.port == THE_BOX:
        offered = [service for port in policy.ports for service in port.desktop]
        return _why_not_to_box(policy.tunnel, session) or _why_not_offered("any port", offered, session)
    port = policy.port(session.port)
    if port is None:
        used = ", ".join(str(port.number) for port in policy.ports)
        return f"port {session.port} is not in use; ports in use: {used}"
    return (
        _why_not_from(policy.tunnel, port, session)
        or _why_not_an_instrument(port, session)
        or _why_not_offered(f"port {port.number}", port.desktop, session)
    )


def _why_not_staff(tunnel: PolicyTunnel, session: Session) -> str:
    if any(session.staff in network for network in tunnel.staff):
        return ""
    staff = ", ".join(map(str, tunnel.staff))
    return f"{session.staff} is not a staff address; staff networks: {staff}"


def _why_not_to_box(tunnel: PolicyTunnel, session: Session) -> str:
    if session.instrument != tunnel.address or session.staff.version != session.instrument.version:
        own = tunnel.address or "it has none, add [tunnel] address"
        return f"{session.instrument} is not the box's own address in the tunnel: {own}"
    return _why_not_staff(tunnel, session)


def _why_not_from(tunnel: PolicyTunnel, port: PolicyPort, session: Session) -> str:
    """Return why a path cannot begin at its address: it must be of staff, or the box's own for bridged desktops."""
    is_bridge = tunnel.address is not None and tunnel.address.version == session.instrument.version
    if is_bridge and any(session.staff == own.ip for own in port.addresses):
        return ""
    return _why_not_staff(tunnel, session)


def _why_not_an_instrument(port: PolicyPort, session: Session) -> str:
    if session.staff.version == session.instrument.version and port.may_have(session.instrument):
        return ""
    networks = ", ".join(str(own.network) for own in port.addresses)
    return f"{session.instrument} cannot be an instrument on port {port.number}; its networks: {networks}"


def _why_not_offered(ports: str, desktops: Collection[Service], session: Session) -> str:
    if session.desktop in desktops:
        return ""
    offered = ", ".join(map(str, desktops)) or "nothing"
    return f"{session.desktop} is not a desktop service of {ports}; desktop services: {offered}"


class KernelSessions(NamedTuple):
    """Content of the session sets: sessions that the policy permits, and other elements."""

    open: list[OpenSession]
    unexpected: list[Json]


def _key(session: Session, interface: str) -> Json:
    return concat(str(session.staff), interface, str(session.instrument), *session.desktop)


def deletion(session: Session, interface: str) -> Json:
    """Return the command that deletes a session's element."""
    return {"delete": session_element(session.staff.version, _key(session, interface))}


def session_element(version: int, value: Json) -> Json:
    """Return an element of the set of sessions with addresses of this IP version."""
    return {"element": {"family": FAMILY, "table": TABLE, "name": SESSIONS[version], "elem": [value]}}


def timed_elements(table: list[Json]) -> Iterator[tuple[str, Json]]:
    """Yield the elements of the session sets with their remaining time, each with an identifying key."""
    for name in SESSIONS.values():
        for element in _elements(table, name):
            yield json.dumps(element["elem"]["val"]), element


def with_sessions(listed: Json, still_open: Mapping[str, Json]) -> Json:
    """Return a listing's object; a session set gets the sessions that are still open, with their remaining time."""
    if "set" not in listed or listed["set"]["name"] not in SESSIONS.values():
        return listed
    keys = [key for key, _ in timed_elements([listed])]
    elements = [still_open[key] for key in keys if key in still_open]
    declared = {key: value for key, value in listed["set"].items() if key != "elem"}
    return {"set": declared | ({"elem": elements} if elements else {})}


def _elements(table: list[Json], name: str) -> Iterator[Json]:
    for listed in table:
        if "set" in listed and listed["set"]["name"] == name:
            yield from listed["set"].get("elem", [])
