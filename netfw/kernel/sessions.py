# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Remote sessions in the kernel: each is one element of a set, with a timeout that the kernel keeps.

The forward chain looks both directions of every packet up in the set, so a path closes with its element: when it is
taken out, and when its time is over, even if the box program is dead by then. Taking it out ends its connections as
well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel.flows import TrackedFlow, forget
from netfw.kernel.nft import Nft
from netfw.policy.policy import SESSION_SECONDS_MAX, SESSIONS_MAX, Address, Policy, PolicyPort, Service
from netfw.ruleset.names import FAMILY, SESSIONS, TABLE
from netfw.ruleset.nft_json import Json, concat


@dataclass(frozen=True, slots=True)
class Session:
    """A path from one address of the staff to one service of one instrument."""

    staff: Address
    port: int
    instrument: Address
    desktop: Service


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session in the kernel's set, on this interface, for so many seconds yet."""

    session: Session
    interface: str
    seconds_left: int

    def element(self) -> Json:
        """As an element with its timeout."""
        value = {"elem": {"val": _key(self.session, self.interface), "timeout": self.seconds_left}}
        return _element(self.session.staff.version, value)


class Found(NamedTuple):
    """What the sets hold: sessions that the policy has, and elements that it does not."""

    open: list[OpenSession]
    strangers: list[Json]


class Sessions:
    """The open sessions of a policy in force. Errors of all methods: FirewallError."""

    def __init__(self, nft: Nft, policy: Policy) -> None:
        self._nft, self._policy = nft, policy

    def list(self) -> list[OpenSession]:
        """Those open now."""
        return found_sessions(self._policy, self._nft).open

    def open(self, session: Session, seconds: int) -> None:
        """Open the path for so long from now; if it is open, that becomes its time. It is open on return."""
        port = self._judge(session)
        if not 1 <= seconds <= SESSION_SECONDS_MAX:
            raise FirewallError(
                FirewallErrorKind.UNFIT, f"{seconds} s; a session has 1 to {SESSION_SECONDS_MAX} seconds"
            )
        now_open = self.list()
        before = next((found for found in now_open if found.session == session), None)
        count = sum(found.session.staff.version == session.staff.version for found in now_open)
        if before is None and count >= SESSIONS_MAX:
            raise FirewallError(
                FirewallErrorKind.UNFIT, f"{SESSIONS_MAX} sessions are open, and that is the most"
            )
        add = {"add": OpenSession(session, port.interface, seconds).element()}
        self._nft.run([*([_deletion(session, port.interface)] if before else []), add])

    def close(self, session: Session) -> int:
        """Close the path, and end its connections: how many there were. Closing what is not open is no error."""
        port = self._policy.port(session.port)
        if port is None:
            return 0
        # A timeout may be over between looking and deleting; adding first makes the deletion sure.
        add = {"add": OpenSession(session, port.interface, 1).element()}
        self._nft.run([add, _deletion(session, port.interface)])
        return forget(lambda flow: _belongs(flow, session))

    def _judge(self, session: Session) -> PolicyPort:
        """The port that the session is for, if the policy has it."""
        tunnel, port = self._policy.tunnel, self._policy.port(session.port)
        if tunnel is None:
            raise FirewallError(FirewallErrorKind.UNFIT, "the policy has no [tunnel], and so no sessions")
        if port is None:
            used = ", ".join(str(port.number) for port in self._policy.ports)
            raise FirewallError(
                FirewallErrorKind.UNFIT, f"port {session.port} is not in use; in use are {used}"
            )
        if not any(session.staff in network for network in tunnel.staff):
            staff = ", ".join(map(str, tunnel.staff))
            raise FirewallError(
                FirewallErrorKind.UNFIT, f"{session.staff} is no address of the staff, {staff}"
            )
        if session.staff.version != session.instrument.version or not port.holds(session.instrument):
            where = ", ".join(str(own.network) for own in port.addresses)
            raise FirewallError(
                FirewallErrorKind.UNFIT,
                f"{session.instrument} is no instrument's address on port {port.number}, {where}",
            )
        if session.desktop not in port.desktop:
            offered = ", ".join(map(str, port.desktop)) or "nothing"
            raise FirewallError(
                FirewallErrorKind.UNFIT,
                f"{session.desktop} is not for sessions on port {port.number}; {offered} is",
            )
        return port


def found_sessions(policy: Policy, nft: Nft) -> Found:
    """The sessions in the kernel, and what else is in their sets."""
    found = Found([], [])
    for version, name in SESSIONS.items():
        for element in nft.elements(name):
            timed = _timed(element)
            session = _read(policy, timed["val"])
            if session is None:
                found.strangers.append(_element(version, timed["val"]))
            else:
                seconds = max(1, int(timed.get("expires", 1)))
                found.open.append(OpenSession(session, timed["val"]["concat"][1], seconds))
    return found


def timed_elements(table: list[Json]) -> Iterator[tuple[str, Json]]:
    """The elements of the sessions' sets with the time they have left, each with a key to know it by."""
    for name in SESSIONS.values():
        for element in _elements(table, name):
            yield json.dumps(element["elem"]["val"]), element


def with_sessions(thing: Json, still_open: Mapping[str, Json]) -> Json:
    """An object of a listing; if it is a set of sessions, with those that are still open, and their present time."""
    if "set" not in thing or thing["set"]["name"] not in SESSIONS.values():
        return thing
    keys = [key for key, _ in timed_elements([thing])]
    elements = [still_open[key] for key in keys if key in still_open]
    declared = {key: value for key, value in thing["set"].items() if key != "elem"}
    return {"set": declared | ({"elem": elements} if elements else {})}


def _elements(table: list[Json], name: str) -> Iterator[Json]:
    for thing in table:
        if "set" in thing and thing["set"]["name"] == name:
            yield from thing["set"].get("elem", [])


def _timed(element: Json) -> Json:
    match element:
        case {"elem": timed}:
            return timed
    return {"val": element}


def _read(policy: Policy, value: Json) -> Session | None:
    """The session that an element is, if the policy has it."""
    match value:
        case {"concat": [staff, interface, instrument, protocol, number]}:
            pass
        case _:
            return None  # in a set that somebody made of another type
    port = next((port for port in policy.ports if port.interface == interface), None)
    service = Service(protocol, number)
    if policy.tunnel is None or port is None or service not in port.desktop:
        return None
    session = Session(ip_address(staff), port.number, ip_address(instrument), service)
    known = any(session.staff in network for network in policy.tunnel.staff)
    return session if known and port.holds(session.instrument) else None


def _key(session: Session, interface: str) -> Json:
    return concat(str(session.staff), interface, str(session.instrument), *session.desktop)


def _deletion(session: Session, interface: str) -> Json:
    return {"delete": _element(session.staff.version, _key(session, interface))}


def _element(version: int, value: Json) -> Json:
    return {"element": {"family": FAMILY, "table": TABLE, "name": SESSIONS[version], "elem": [value]}}


def _belongs(flow: TrackedFlow, session: Session) -> bool:
    return (flow.source, flow.destination, flow.protocol, flow.destination_port) == (
        session.staff,
        session.instrument,
        session.desktop.protocol,
        session.desktop.port,
    )
