# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Watch the firewall's table: an alarm at each change by another program, then the repair.

The kernel reports every change of a ruleset to subscribers of NFNLGRP_NFTABLES, object by object, and closes each
transaction with a message that names the process. Transactions of this process are known by the port of the socket
that they came from, which must still be open. Transactions of other tables are ignored, unless they change this one
too, as `flush ruleset` does.

The messages only trigger: what has changed is determined by reading the whole table (`Firewall.look`). A change that
comes during a repair is therefore not lost; the table is read again afterwards, and messages that arrived meanwhile
are read next. Whatever goes wrong while messages are read or the table is repaired is reported as a failed repair,
never swallowed: whoever started the watch closes the ports then. `look` reads the table without waiting for a
message; callers do so regularly.

The table says which policy it follows from (`Firewall.mark`). If that is another one all of a sudden, somebody has
put it in force on purpose, and the watch stands back. A change by hand leaves the mark as it was, or takes it away.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.events import Alarm, Repair
from netfw.kernel import netlink
from netfw.kernel.firewall import Differences, Firewall
from netfw.kernel.sessions import Session, Sessions
from netfw.policy.policy import Policy
from netfw.ruleset.names import FAMILY, SESSIONS, TABLE

REPAIRS_MAX: Final = 5
"""In a row; a program that changes the table more often is reported, and repaired with the next message."""
BUFFER_BYTES: Final = 16 * 1024 * 1024
"""A transaction with 10,000 elements is reported in 10,000 messages at once."""
_SO_RCVBUFFORCE: Final = 33

_NFNLGRP_NFTABLES: Final = 7
_SOL_NETLINK, _ADD_MEMBERSHIP, _DROP_MEMBERSHIP = 270, 1, 2
_SUBSYSTEM: Final = 10 << 8
_NEWSETELEM, _DELSETELEM, _NEWGEN = _SUBSYSTEM | 12, _SUBSYSTEM | 14, _SUBSYSTEM | 15
_TABLE_NAME, _SET_NAME = 1, 2
_GEN_PROC_PID, _GEN_PROC_NAME = 2, 3


@dataclass(slots=True)
class _Transaction:
    """What has been reported of a transaction that is not closed yet."""

    touches_ours: bool = False
    repeated: bytes = b""
    """The beginning of the last message: what begins alike, as thousands do, is about the same."""


@dataclass(slots=True)
class Watch:
    """Watches the table in this network namespace; `heard` is called with each Alarm, and each Repair after it.

    `sessions` are those that the owner opened, with the seconds they have left: others are closed, and these opened
    again if they are gone. Without an owner, sessions are ignored.

    `newer` is asked when another policy was put in force, with its mark, and gives it, if that is what should be
    watched from now on. Otherwise the watch stands back, until a policy that it watched before is in force again.
    """

    firewall: Firewall
    policy: Policy
    heard: Callable[[Alarm | Repair], None]
    sessions: Callable[[], Mapping[Session, int]] | None = None
    newer: Callable[[str], Policy | None] | None = None
    _known: dict[str, Policy] = field(default_factory=dict)
    _stands_back: str = ""
    _socket: socket.socket = field(default_factory=netlink.netfilter_socket)
    _filling: socket.socket = field(default_factory=netlink.netfilter_socket)
    _transaction: _Transaction = field(default_factory=_Transaction)

    def start(self) -> None:
        """Listen from now on, on the running event loop. What is wrong already is repaired first.

        Raises: FirewallError (DENIED).
        """
        self._socket.setblocking(False)
        self._socket.bind((0, 0))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
            self._listen(True)
        except PermissionError:
            problem = "the kernel does not let this user hear of changes of the firewall; be root"
            raise FirewallError(FirewallErrorKind.DENIED, problem) from None
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        self._known[self.firewall.mark_of(self.policy)] = self.policy
        self.look()
        _settle()

    def stop(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._filling.close()

    def look(self) -> bool:
        """Read the table now, and repair what differs. Returns whether the policy was in force without a repair."""
        try:
            with _collector_paused():
                if self._gives_way():
                    return False
                if found := self._differences():
                    self._repair(found)
                return not found
        except Exception as error:  # a watch that fails must not look like one that finds nothing
            self._report_failure(error)
            return False

    def _read(self) -> None:
        """Called by the event loop when messages wait."""
        try:
            with _collector_paused():
                alarms = list(self._alarms())
                for alarm in alarms:
                    self.heard(alarm)
                if alarms and not self._gives_way():
                    self._repair(self._differences())
        except Exception as error:  # see `look`
            self._report_failure(error)

    def _report_failure(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, FirewallError) else f"{type(error).__name__}: {error}"
        self.heard(Repair((), in_force=False, problem=f"the firewall's watch failed: {reason}"))

    def _alarms(self) -> Iterator[Alarm]:
        """The changes by other programs that the waiting messages report."""
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
            for message in netlink.messages(datagram, but=self._transaction.repeated):
                if message.kind != _NEWGEN:
                    self._note(message)
                elif alarm := self._alarm(message):
                    yield alarm

    def _note(self, message: netlink.NetlinkMessage) -> None:
        transaction, given = self._transaction, message.attributes()
        transaction.repeated = message.beginning(_TABLE_NAME, _SET_NAME)
        transaction.touches_ours |= self._is_ours(message, given)

    def _alarm(self, message: netlink.NetlinkMessage) -> Alarm | None:
        """At the end of a transaction: whether it was about this table, and not by this process."""
        given = message.attributes()
        ended, self._transaction = self._transaction, _Transaction()
        if not ended.touches_ours or netlink.is_ours(message.port(), self._socket):
            return None
        pid = int.from_bytes(given.get(_GEN_PROC_PID, b""), "big")
        return Alarm(pid, _name(given, _GEN_PROC_NAME))

    def _is_ours(self, message: netlink.NetlinkMessage, given: dict[int, bytes]) -> bool:
        if message.family() != netlink.FAMILIES[FAMILY] or _name(given, _TABLE_NAME) != TABLE:
            return False
        about_sessions = message.kind in (_NEWSETELEM, _DELSETELEM) and (
            _name(given, _SET_NAME) in SESSIONS.values()
        )
        return self.sessions is not None or not about_sessions

    def _gives_way(self) -> bool:
        """Whether another policy is in force on purpose, and not one that is to be watched."""
        try:
            mark = self.firewall.mark()
        except FirewallError:
            return False  # the repair fails as well, and tells why
        if mark and mark not in self._known and self.newer and (newer := self.newer(mark)):
            self._known[mark] = newer
            _settle()
        if not mark or mark in self._known:
            self.policy, self._stands_back = self._known.get(mark, self.policy), ""
            return False
        if mark != self._stands_back:
            self._stands_back = mark
            self.heard(
                Repair((), in_force=False, problem=f"another policy was put in force ({mark}), and is let be")
            )
        return True

    def _repair(self, found: Differences) -> None:
        """Put the policy in force again, and report that."""
        left = found
        try:
            for attempt in range(REPAIRS_MAX):
                if not left:
                    break
                if attempt:
                    self.heard(Alarm(0, ""))  # somebody changed it meanwhile, unheard
                    if self._gives_way():
                        return
                # what differs after a repair differs in a way that is not understood
                strange = left.strange or attempt > 1
                with self._unheard():
                    self.firewall.repair(self.policy, replace(left, strange=strange), self._filling)
                self._repair_sessions()
                left = self._differences()
            self.heard(Repair(found.lines, in_force=not left))
        except FirewallError as error:
            self.heard(Repair(found.lines, in_force=False, problem=str(error)))

    @contextlib.contextmanager
    def _unheard(self) -> Iterator[None]:
        """Do not have the kernel report this process's own changes: of 10,000 elements that takes it 12 ms.

        What others change meanwhile is found when the table is read afterwards.
        """
        self._listen(False)
        try:
            yield
        finally:
            self._listen(True)

    def _listen(self, wanted: bool) -> None:
        option = _ADD_MEMBERSHIP if wanted else _DROP_MEMBERSHIP
        self._socket.setsockopt(_SOL_NETLINK, option, _NFNLGRP_NFTABLES)

    def _differences(self) -> Differences:
        found = self.firewall.look(self.policy)
        missing, strange = self._session_differences()
        words = [f"the session {_path(session)} is closed" for session in missing]
        words += [f"a session {_path(session)} is open that nobody asked for" for session in strange]
        if not words:
            return found
        return replace(found, lines=(*found.lines, *words), nothing_else=False)

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
                if (
                    error.kind is not FirewallErrorKind.UNFIT
                ):  # its time is over, or the policy has it no more
                    raise


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Collect no garbage meanwhile: a full collection walks through a policy of 10,000 addresses for 25 ms."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _settle() -> None:
    """Exempt the objects of a policy, which last, from future collections: a change may come during one."""
    gc.collect()
    gc.freeze()


def _name(given: dict[int, bytes], kind: int) -> str:
    return given.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def _path(session: Session) -> str:
    return f"{session.staff} → {session.instrument} {session.desktop} on port {session.port}"
