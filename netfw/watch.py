"""Somebody changes the firewall: an alarm at once, then the policy again.

The kernel tells every change of a ruleset to who listens (NFNLGRP_NFTABLES), object by object, and closes each
transaction with a message that says which process it was. Our own transactions are known by that; those of other
tables are let be, unless they take ours with them, as `flush ruleset` does.

A change that comes while one is being repaired is not lost: what the kernel holds is compared again afterwards, and
messages that came in the meantime are read next.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from netfw import netlink
from netfw.firewall import Firewall
from netfw.names import FAMILY, SESSIONS, TABLE
from netfw.nft import FirewallError, Kind
from netfw.policy import Policy
from netfw.sessions import Session, Sessions

REPAIRS_MAX: Final = 5
"""In a row; whoever changes it more often is told of, and repaired with the next message."""
BUFFER_BYTES: Final = 4 * 1024 * 1024

_NFNLGRP_NFTABLES: Final = 7
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SUBSYSTEM: Final = 10 << 8
_NEWSETELEM, _DELSETELEM, _NEWGEN = _SUBSYSTEM | 12, _SUBSYSTEM | 14, _SUBSYSTEM | 15
_TABLE_NAME, _SET_NAME = 1, 2
_GEN_PROC_PID, _GEN_PROC_NAME = 2, 3
_FAMILIES: Final = {"inet": 1}


@dataclass(frozen=True, slots=True)
class Alarm:
    """Somebody else has changed the firewall's table. `pid` is 0 and `program` "" where the kernel did not say."""

    pid: int
    program: str


@dataclass(frozen=True, slots=True)
class Repair:
    """What was found changed, and whether the policy is in force again."""

    differences: tuple[str, ...]
    in_force: bool
    problem: str = ""


@dataclass(slots=True)
class _Transaction:
    """What has been told of a transaction that is not closed yet."""

    touches_ours: bool = False


@dataclass(slots=True)
class Watch:
    """Watches the table in this network namespace; `told` is called with each Alarm, and each Repair after it.

    `sessions` are those that the owner opened, with the seconds they have left: others are closed, and these opened
    again if they are gone. Without an owner, sessions are let be.
    """

    firewall: Firewall
    policy: Policy
    told: Callable[[Alarm | Repair], None]
    sessions: Callable[[], Mapping[Session, int]] | None = None
    _socket: socket.socket = field(default_factory=netlink.netfilter_socket)
    _transaction: _Transaction = field(default_factory=_Transaction)

    def start(self) -> None:
        """Listen from now on, on the running event loop. What is wrong already is repaired first."""
        self._socket.setblocking(False)
        self._socket.bind((0, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        asyncio.get_running_loop().add_reader(self._socket, self._heard)
        if self._differences():
            self._repair()

    def stop(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _heard(self) -> None:
        alarms = list(self._alarms())
        for alarm in alarms:
            self.told(alarm)
        if alarms:
            self._repair()

    def _alarms(self) -> Iterator[Alarm]:
        """What the messages that wait amount to."""
        while True:
            try:
                datagram = self._socket.recv(netlink.RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield Alarm(0, "")  # messages were lost; any of them may have been about us
                continue
            for message in netlink.messages(datagram):
                if alarm := self._alarm(message):
                    yield alarm

    def _alarm(self, message: netlink.Message) -> Alarm | None:
        given = message.attributes()
        if message.kind != _NEWGEN:
            self._transaction.touches_ours |= self._is_ours(message, given)
            return None
        ended, self._transaction = self._transaction, _Transaction()
        pid = int.from_bytes(given.get(_GEN_PROC_PID, b""), "big")
        if not ended.touches_ours or _is_this_process(pid):
            return None
        return Alarm(pid, given.get(_GEN_PROC_NAME, b"").rstrip(b"\0").decode(errors="replace"))

    def _is_ours(self, message: netlink.Message, given: dict[int, bytes]) -> bool:
        if message.family() != _FAMILIES[FAMILY] or _name(given, _TABLE_NAME) != TABLE:
            return False
        about_sessions = message.kind in (_NEWSETELEM, _DELSETELEM) and (
            _name(given, _SET_NAME) in SESSIONS.values()
        )
        return self.sessions is not None or not about_sessions

    def _repair(self) -> None:
        found: tuple[str, ...] = ()
        try:
            left = self._differences()
            found = tuple(left)
            for _ in range(REPAIRS_MAX):
                if not left:
                    break
                self.firewall.apply(self.policy)
                self._repair_sessions()
                left = self._differences()
            self.told(Repair(found, in_force=not left))
        except FirewallError as error:
            self.told(Repair(found, in_force=False, problem=str(error)))

    def _differences(self) -> list[str]:
        missing, strange = self._session_differences()
        return [
            *self.firewall.differences(self.policy),
            *(f"the session {_path(session)} is closed" for session in missing),
            *(f"a session {_path(session)} is open that nobody asked for" for session in strange),
        ]

    def _session_differences(self) -> tuple[dict[Session, int], list[Session]]:
        """Sessions that are gone, with the seconds they should have left, and those that should not be."""
        if self.sessions is None:
            return {}, []
        wanted = self.sessions()
        found = [opened.session for opened in Sessions(self.firewall.nft, self.policy).list()]
        missing = {session: seconds for session, seconds in wanted.items() if session not in found}
        return missing, [session for session in found if session not in wanted]

    def _repair_sessions(self) -> None:
        missing, strange = self._session_differences()
        sessions = Sessions(self.firewall.nft, self.policy)
        for session in strange:
            sessions.close(session)
        for session, seconds in missing.items():
            try:
                sessions.open(session, seconds)
            except FirewallError as error:
                if error.kind is not Kind.UNFIT:  # its time is over, or the policy has it no more
                    raise


def _name(given: dict[int, bytes], kind: int) -> str:
    return given.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def _path(session: Session) -> str:
    return f"{session.staff} → {session.instrument} {session.desktop} on port {session.port}"


def _is_this_process(pid: int) -> bool:
    """Whether that is one of our threads; the kernel names threads."""
    return pid > 0 and Path(f"/proc/self/task/{pid}").exists()
