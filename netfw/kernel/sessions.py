# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Remote sessions in the kernel: each is a set element with a timeout kept by the kernel.

The forward chain looks up both directions of every packet in the set. A path therefore closes with its element: when
it is deleted, and when it times out, even if the box program has died by then. Deleting it also ends its connections.
"""

from __future__ import annotations

from ipaddress import ip_address

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel.flows import TrackedFlow, delete_connections
from netfw.kernel.nft import Nft
from netfw.policy.policy import SESSION_SECONDS_MAX, SESSIONS_MAX, Policy, PolicyPort, Service
from netfw.ruleset.names import SESSIONS
from netfw.ruleset.nft_json import Json
from netfw.ruleset.sessions import Found, OpenSession, Session, deletion, session_element


class Sessions:
    """The open sessions of a policy in force. All methods raise FirewallError."""

    def __init__(self, nft: Nft, policy: Policy) -> None:
        self._nft, self._policy = nft, policy

    def list(self) -> list[OpenSession]:
        """Return the open sessions."""
        return found_sessions(self._policy, self._nft).open

    def open(self, session: Session, seconds: int) -> None:
        """Open the path for `seconds` from now, also if it is already open; it is open on return."""
        port = self._permitted_port(session)
        if not 1 <= seconds <= SESSION_SECONDS_MAX:
            raise FirewallError(
                FirewallErrorKind.UNFIT,
                f"{seconds} s: a session lasts from 1 to {SESSION_SECONDS_MAX} seconds",
            )
        now_open = self.list()
        before = next((found for found in now_open if found.session == session), None)
        count = sum(found.session.staff.version == session.staff.version for found in now_open)
        if before is None and count >= SESSIONS_MAX:
            raise FirewallError(
                FirewallErrorKind.UNFIT, f"{SESSIONS_MAX} sessions are open, which is the maximum"
            )
        add = {"add": OpenSession(session, port.interface, seconds).element()}
        self._nft.run([*([deletion(session, port.interface)] if before else []), add])

    def close(self, session: Session) -> int:
        """Close the path and end its connections; return their number. Closing a closed path is not an error."""
        port = self._policy.port(session.port)
        if port is None:
            return 0
        # The timeout may expire before the deletion, which would fail; adding the element first prevents that.
        add = {"add": OpenSession(session, port.interface, 1).element()}
        self._nft.run([add, deletion(session, port.interface)])
        return delete_connections(lambda flow: _belongs(flow, session))

    def _permitted_port(self, session: Session) -> PolicyPort:
        """Return the session's port, after checking that the policy permits the session."""
        tunnel, port = self._policy.tunnel, self._policy.port(session.port)
        if tunnel is None:
            raise FirewallError(
                FirewallErrorKind.UNFIT, "the policy has no [tunnel], so it permits no sessions"
            )
        if port is None:
            used = ", ".join(str(port.number) for port in self._policy.ports)
            raise FirewallError(
                FirewallErrorKind.UNFIT, f"port {session.port} is not in use; ports in use: {used}"
            )
        if not any(session.staff in network for network in tunnel.staff):
            staff = ", ".join(map(str, tunnel.staff))
            raise FirewallError(
                FirewallErrorKind.UNFIT, f"{session.staff} is not a staff address; staff networks: {staff}"
            )
        if session.staff.version != session.instrument.version or not port.may_have(session.instrument):
            where = ", ".join(str(own.network) for own in port.addresses)
            raise FirewallError(
                FirewallErrorKind.UNFIT,
                f"{session.instrument} cannot be an instrument on port {port.number}; its networks: {where}",
            )
        if session.desktop not in port.desktop:
            offered = ", ".join(map(str, port.desktop)) or "nothing"
            raise FirewallError(
                FirewallErrorKind.UNFIT,
                f"{session.desktop} is not a desktop service of port {port.number}; desktop services: {offered}",
            )
        return port


def found_sessions(policy: Policy, nft: Nft) -> Found:
    """Return the sessions in the kernel, and other elements of their sets."""
    found = Found([], [])
    for version, name in SESSIONS.items():
        for element in nft.elements(name):
            timed = _timed(element)
            session = _read(policy, timed["val"])
            if session is None:
                found.unexpected.append(session_element(version, timed["val"]))
            else:
                seconds = max(1, int(timed.get("expires", 1)))
                found.open.append(OpenSession(session, timed["val"]["concat"][1], seconds))
    return found


def _timed(element: Json) -> Json:
    match element:
        case {"elem": timed}:
            return timed
    return {"val": element}


def _read(policy: Policy, value: Json) -> Session | None:
    """Return the session of an element, if the policy permits it."""
    match value:
        case {"concat": [staff, interface, instrument, protocol, number]}:
            pass
        case _:
            return None  # the set was created by another program with another type
    port = next((port for port in policy.ports if port.interface == interface), None)
    service = Service(protocol, number)
    if policy.tunnel is None or port is None or service not in port.desktop:
        return None
    session = Session(ip_address(staff), port.number, ip_address(instrument), service)
    known = any(session.staff in network for network in policy.tunnel.staff)
    return session if known and port.may_have(session.instrument) else None


def _belongs(flow: TrackedFlow, session: Session) -> bool:
    return (flow.source, flow.destination, flow.protocol, flow.destination_port) == (
        session.staff,
        session.instrument,
        session.desktop.protocol,
        session.desktop.port,
    )
