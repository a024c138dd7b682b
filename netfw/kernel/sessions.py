# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Remote sessions in the kernel: each is a set element with a timeout kept by the kernel.

The chains look up every packet in the set, in both directions. A path therefore closes when its element is
deleted or times out, even if the box program has died by then. Deleting the element also ends the connections.
"""

from __future__ import annotations

from ipaddress import ip_address

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel.flows import TrackedFlow, delete_connections
from netfw.kernel.nft import Nft
from netfw.policy.policy import SESSIONS_MAX, Policy, Service
from netfw.ruleset.names import SESSIONS
from netfw.ruleset.nft_json import Json
from netfw.ruleset.sessions import (
    THE_BOX,
    KernelSessions,
    OpenSession,
    Session,
    deletion,
    interface_of,
    session_element,
    why_not_permitted,
)


class Sessions:
    """The open sessions of a policy in force. All methods raise FirewallError."""

    def __init__(self, nft: Nft, policy: Policy) -> None:
        self._nft, self._policy = nft, policy

    def list(self) -> list[OpenSession]:
        """Return the open sessions."""
        return kernel_sessions(self._policy, self._nft).open

    def open(self, session: Session, seconds: int) -> None:
        """Open the path for `seconds` from now; it is open on return.

        If it was open already, its time begins anew.
        """
        if why := why_not_permitted(self._policy, session, seconds):
            raise FirewallError(FirewallErrorKind.UNFIT, why)
        interface = interface_of(self._policy, session)
        assert interface is not None
        open_sessions = self.list()
        before = next((each for each in open_sessions if each.session == session), None)
        count = sum(each.session.staff.version == session.staff.version for each in open_sessions)
        if before is None and count >= SESSIONS_MAX:
            raise FirewallError(
                FirewallErrorKind.UNFIT, f"{SESSIONS_MAX} sessions are open, which is the maximum"
            )
        add = {"add": OpenSession(session, interface, seconds).element()}
        self._nft.run([*([deletion(session, interface)] if before else []), add])

    def close(self, session: Session) -> int:
        """Close the path and end its connections; return their number. Closing a closed path is not an error."""
        interface = interface_of(self._policy, session)
        if interface is None:
            return 0
        # The timeout may expire before the deletion, which would fail; adding the element first prevents that.
        add = {"add": OpenSession(session, interface, 1).element()}
        self._nft.run([add, deletion(session, interface)])
        return delete_connections(lambda flow: _belongs(flow, session))


def kernel_sessions(policy: Policy, nft: Nft) -> KernelSessions:
    """Return the sessions in the kernel, and other elements of their sets."""
    result = KernelSessions([], [])
    for version, name in SESSIONS.items():
        for element in nft.elements(name):
            timed = _timed(element)
            session = _read(policy, timed["val"])
            if session is None:
                result.unexpected.append(session_element(version, timed["val"]))
            else:
                seconds = max(1, int(timed.get("expires", 1)))
                result.open.append(OpenSession(session, timed["val"]["concat"][1], seconds))
    return result


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
    numbers = {port.interface: port.number for port in policy.ports}
    numbers |= {policy.tunnel.interface: THE_BOX} if policy.tunnel else {}
    if interface not in numbers:
        return None
    service = Service(protocol, number)
    session = Session(ip_address(staff), numbers[interface], ip_address(instrument), service)
    return None if why_not_permitted(policy, session) else session


def _belongs(flow: TrackedFlow, session: Session) -> bool:
    return (flow.source, flow.destination, flow.protocol, flow.destination_port) == (
        session.staff,
        session.instrument,
        session.desktop.protocol,
        session.desktop.port,
    )
