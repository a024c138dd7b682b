# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Watches the firewall's table: reports an alarm for each change by another program, then repairs it.

The kernel reports every change of a ruleset to subscribers of NFNLGRP_NFTABLES, object by object, and ends each
transaction with a message that names the process. Transactions of this process are recognized by the port of their
socket, which must still be open. Transactions of other tables are ignored, unless they also change this one, as
`flush ruleset` does.

The messages are only a trigger: changes are determined by reading the whole table (`Firewall.compare`). A change
during a repair is therefore not lost: the table is read again afterwards, and then the messages that arrived
meanwhile. Any failure while reading messages or repairing is reported as a failed repair, never suppressed, and the
owner of the watch then closes the ports. `check` reads the table without waiting for a message; callers do so
regularly.

The table records the policy from which it was generated (`Firewall.mark`). If that changes, another policy was put
in force intentionally, and the watch is suspended. A manual change leaves the mark unchanged, or removes it.
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
from netfw.kernel.sessions import Sessions, kernel_sessions
from netfw.policy.policy import Policy
from netfw.ruleset.names import FAMILY, SESSIONS, TABLE
from netfw.ruleset.sessions import THE_BOX, Session, why_not_permitted

REPAIRS_MAX: Final = 5
"""Maximum number of consecutive repairs; if another program changes the table more often, that is reported, and
repaired later."""
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
    """The messages of a transaction that has not ended yet."""

    touches_ours: bool = False
    repeated: bytes = b""
    """The beginning of the last message: thousands of messages that begin alike concern the same set."""


@dataclass(slots=True)
class Watch:
    """Watches the table in this network namespace; `on_event` is called with each Alarm, and each Repair after it.

    `sessions` returns the sessions that the owner opened, with the seconds they have left. Other sessions in the
    kernel are closed. Missing ones are reopened if they have at least a second left, and the policy permits them. If
    it is None, sessions are ignored.

    `newer` is called with the mark of another policy that was put in force. It returns that policy if it should be
    watched from now on. If it returns None, the watch is suspended until a policy that it watched before is in force
    again.
    """

    firewall: Firewall
    policy: Policy
    on_event: Callable[[Alarm | Repair], None]
    sessions: Callable[[], Mapping[Session, int]] | None = None
    newer: Callable[[str], Policy | None] | None = None
    _known: dict[str, Policy] = field(default_factory=dict)
    _suspended_by: str = ""
    netlink_socket: socket.socket = field(default_factory=netlink.netfilter_socket)
    _refill_socket: socket.socket = field(default_factory=netlink.netfilter_socket)
    _transaction: _Transaction = field(default_factory=_Transaction)

    def start(self) -> None:
        """Start watching on the running event loop, after repairing existing differences.

        Raises: FirewallError (DENIED).
        """
        self.netlink_socket.setblocking(False)
        self.netlink_socket.bind((0, 0))
        try:
            self.netlink_socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
            self._subscribe(True)
        except PermissionError:
            problem = "the kernel does not let this user receive changes of the firewall; run it as root"
            raise FirewallError(FirewallErrorKind.DENIED, problem) from None
        asyncio.get_running_loop().add_reader(self.netlink_socket, self._read)
        self._known[self.firewall.mark_of(self.policy)] = self.policy
        self.check()
        _settle()

    def stop(self) -> None:
        """Stop watching."""
        asyncio.get_running_loop().remove_reader(self.netlink_socket)
        self.netlink_socket.close()
        self._refill_socket.close()

    def check(self) -> bool:
        """Read the table now and repair differences; return whether the policy was in force without a repair."""
        try:
            with _collector_paused():
                if self._is_suspended():
                    return False
                if differences := self._differences():
                    self._repair(differences)
                return not differences
        except Exception as error:  # a failed watch must not look like one without findings
            self._report_failure(error)
            return False

    def _read(self) -> None:
        """Read waiting messages; called by the event loop."""
        try:
            with _collector_paused():
                alarms = list(self._alarms())
                for alarm in alarms:
                    self.on_event(alarm)
                if alarms and not self._is_suspended():
                    self._repair(self._differences())
        except Exception as error:  # see `check`
            self._report_failure(error)

    def _report_failure(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, FirewallError) else f"{type(error).__name__}: {error}"
        self.on_event(Repair((), in_force=False, problem=f"the firewall's watch failed: {reason}"))

    def _alarms(self) -> Iterator[Alarm]:
        """Yield the changes by other programs in the waiting messages."""
        while True:
            try:
                datagram = self.netlink_socket.recv(netlink.RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield Alarm(0, "")  # messages were lost; any of them may have concerned this table
                continue
            for message in netlink.messages(datagram, skipped=self._transaction.repeated):
                if message.kind != _NEWGEN:
                    self._note(message)
                elif alarm := self._alarm(message):
                    yield alarm

    def _note(self, message: netlink.NetlinkMessage) -> None:
        transaction, fields = self._transaction, message.attributes()
        transaction.repeated = message.beginning(_TABLE_NAME, _SET_NAME)
        transaction.touches_ours |= self._is_ours(message, fields)

    def _alarm(self, message: netlink.NetlinkMessage) -> Alarm | None:
        """Return an Alarm at the end of a transaction if another process changed this table."""
        fields = message.attributes()
        ended, self._transaction = self._transaction, _Transaction()
        if not ended.touches_ours or netlink.is_ours(message.port(), self.netlink_socket):
            return None
        pid = int.from_bytes(fields.get(_GEN_PROC_PID, b""), "big")
        return Alarm(pid, _name(fields, _GEN_PROC_NAME))

    def _is_ours(self, message: netlink.NetlinkMessage, fields: dict[int, bytes]) -> bool:
        if message.family() != netlink.FAMILIES[FAMILY] or _name(fields, _TABLE_NAME) != TABLE:
            return False
        about_sessions = message.kind in (_NEWSETELEM, _DELSETELEM) and (
            _name(fields, _SET_NAME) in SESSIONS.values()
        )
        return self.sessions is not None or not about_sessions

    def _is_suspended(self) -> bool:
        """Return whether a policy that is not to be watched was put in force intentionally."""
        try:
            mark = self.firewall.mark()
        except FirewallError:
            return False  # the repair will fail too, and report why
        if mark and mark not in self._known and self.newer and (newer := self.newer(mark)):
            self._known[mark] = newer
            _settle()
        if not mark or mark in self._known:
            self.policy, self._suspended_by = self._known.get(mark, self.policy), ""
            return False
        if mark != self._suspended_by:
            self._suspended_by = mark
            self.on_event(
                Repair(
                    (),
                    in_force=False,
                    problem=f"another policy was put in force ({mark}); this one is suspended",
                )
            )
        return True

    def _repair(self, differences: Differences) -> None:
        """Put the policy in force again, and report that."""
        remaining = differences
        try:
            for attempt in range(REPAIRS_MAX):
                if not remaining:
                    break
                if attempt:
                    self.on_event(Alarm(0, ""))  # another program changed it meanwhile, without a message
                    if self._is_suspended():
                        return
                # differences that remain after a repair are not understood
                unsupported = remaining.unsupported or attempt > 1
                with self._unsubscribed():
                    self.firewall.repair(
                        self.policy, replace(remaining, unsupported=unsupported), self._refill_socket
                    )
                self._repair_sessions()
                remaining = self._differences()
            self.on_event(Repair(differences.lines, in_force=not remaining))
        except FirewallError as error:
            self.on_event(Repair(differences.lines, in_force=False, problem=str(error)))

    @contextlib.contextmanager
    def _unsubscribed(self) -> Iterator[None]:
        """Suspend the kernel's reports of this process's own changes: 10,000 elements would take it 12 ms.

        Changes by others in the meantime are found when the table is read afterwards.
        """
        self._subscribe(False)
        try:
            yield
        finally:
            self._subscribe(True)

    def _subscribe(self, wanted: bool) -> None:
        option = _ADD_MEMBERSHIP if wanted else _DROP_MEMBERSHIP
        self.netlink_socket.setsockopt(_SOL_NETLINK, option, _NFNLGRP_NFTABLES)

    def _differences(self) -> Differences:
        differences = self.firewall.compare(self.policy)
        missing, unexpected, unreadable = self._session_differences()
        descriptions = [f"the session {_path(session)} is closed" for session in missing]
        descriptions += [f"session {_path(session)} is open, but was not requested" for session in unexpected]
        descriptions += [f"{element} is not a session that the policy permits" for element in unreadable]
        if not descriptions:
            return differences
        return replace(differences, lines=(*differences.lines, *descriptions), nothing_else=False)

    def _session_differences(self) -> tuple[dict[Session, int], list[Session], list[str]]:
        """Return missing sessions, with the seconds they should have left, unexpected ones, and other elements."""
        if self.sessions is None or self.policy.tunnel is None:
            return {}, [], []
        wanted = self.sessions()
        in_kernel = kernel_sessions(self.policy, self.firewall.nft)
        present = [opened.session for opened in in_kernel.open]
        missing = {
            session: seconds
            for session, seconds in wanted.items()
            if session not in present and seconds >= 1 and not why_not_permitted(self.policy, session)
        }
        unexpected = [session for session in present if session not in wanted]
        return missing, unexpected, [str(element["element"]["elem"]) for element in in_kernel.unexpected]

    def _repair_sessions(self) -> None:
        missing, unexpected, _ = self._session_differences()
        sessions = Sessions(self.firewall.nft, self.policy)
        for session in unexpected:
            sessions.close(session)
        for session, seconds in missing.items():
            sessions.open(session, seconds)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause garbage collection: a full collection of a policy with 10,000 addresses takes 25 ms."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _settle() -> None:
    """Exempt the policy's long-lived objects from garbage collection, which could coincide with a change."""
    gc.collect()
    gc.freeze()


def _name(fields: dict[int, bytes], kind: int) -> str:
    return fields.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def _path(session: Session) -> str:
    location = f"on port {session.port}" if session.port != THE_BOX else "in the tunnel"
    return f"{session.staff} → {session.instrument} {session.desktop} {location}"
