# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Supervises the firewall: instrument ports and paths of sessions are open only while the policy is in force.

    closed ──enforced──▶ open: the policy is watched, kernel settings are inspected
      ▲  └─ failed: reported, retried                                  │
      └──────────── the policy cannot be restored ◀────────────────────┘

`FirewallBackend` abstracts the kernel. When the service ends for any reason, the policy remains enforced and the
state of the ports does not change. The next start keeps a policy that it finds in force, so that there is no
interruption; otherwise the ports are closed first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import Final, NoReturn, Protocol, TypeAlias

from hal.ethernet import EthernetError, EthernetErrorKind, EthernetPort
from netfw.events import Alarm, Event, FirewallState, OutsideInspection, PathsLost, PortFault, Repair
from netfw.ruleset.sessions import Session

INSPECTION_SECONDS: Final = 10.0
"""Interval of inspections of ports, kernel settings and counters while the policy is in force."""

EventHandler: TypeAlias = Callable[[Event], None]


class NotEnforced(Exception):
    """The policy is not completely in force; the message gives the reason."""


class FirewallBackend(Protocol):
    """Puts a policy in force. The calls block; the supervisor makes them on its event loop's thread."""

    @property
    def ports(self) -> Collection[int]:
        """Return the instrument ports that the policy uses; the others stay closed."""
        ...

    def is_in_force(self) -> bool:
        """Return whether exactly the policy is in force now. Never fails: an unknown state counts as false."""
        ...

    def enforce(self) -> None:
        """Put the policy in force and read it back before returning. Raises: NotEnforced."""
        ...

    def set_forwarding(self, allowed: bool) -> None:
        """Enable forwarding between interfaces if the policy needs it; or disable it. Raises: NotEnforced."""
        ...

    def watch(
        self, on_event: Callable[[Alarm | Repair], None], sessions: Callable[[], Mapping[Session, int]]
    ) -> Callable[[], None]:
        """Repair changes by other programs; the returned function stops that. Raises: NotEnforced.

        `on_event` is called with each change (Alarm), and with its repair (Repair). `sessions` returns those that
        are open, with the seconds they have left; others are closed.
        """
        ...

    def permits(self, session: Session) -> bool:
        """Return whether the policy permits the session."""
        ...

    def open_session(self, session: Session, seconds: int) -> None:
        """Open the path of a session for this time; it is open on return. Raises: NotEnforced."""
        ...

    def close_session(self, session: Session) -> None:
        """Close the path of a session. On return, no packets pass. Raises: NotEnforced."""
        ...

    def inspect(self) -> OutsideInspection:
        """Inspect the table's surroundings, and restore the firewall's kernel settings.

        Called every `INSPECTION_SECONDS` and after each change by another program. Raises: NotEnforced.
        """
        ...

    def refused(self) -> Mapping[str, int]:
        """Return refused packets by cause. The counts may restart at 0. Raises: NotEnforced."""
        ...


class Supervisor:
    """Keeps a policy in force, and opens and closes a board's ports accordingly."""

    def __init__(
        self,
        backend: FirewallBackend,
        ports: Mapping[int, EthernetPort],
        retry_s: float,
        inspection_s: float = INSPECTION_SECONDS,
    ) -> None:
        """`ports` are all instrument ports of the board.

        `retry_s` is the delay before enforcement is retried, `inspection_s` the interval of inspections.
        """
        self._backend, self._ports = backend, ports
        self._retry_s, self._inspection_s = retry_s, inspection_s
        self._problem = "the policy has not been put in force yet"
        self._not_covered: tuple[str, ...] = ()
        self._limits: dict[str, tuple[int, int]] = {}
        self._alarms = self._repairs = 0
        self._refused: dict[str, int] = {}
        self._faults: dict[int, str] = {}
        self._sessions: dict[Session, float] = {}
        """The times at which the open sessions end, on the event loop's clock."""
        self._broken = asyncio.Event()
        self._on_event: EventHandler = lambda _event: None

    def state(self) -> FirewallState:
        """Return the current state."""
        return FirewallState(
            not self._problem,
            self._problem,
            self._not_covered,
            self._alarms,
            self._repairs,
            dict(self._refused),
            self._limits,
        )

    async def follow(self, on_event: EventHandler) -> NoReturn:
        """Keep the policy in force until cancelled, and report each event to `on_event`.

        A FirewallState is reported at each failed enforcement, and at each inspection while the policy is in force.
        """
        self._on_event = on_event
        self._enforce()
        while True:
            while self._problem:
                await asyncio.sleep(self._retry_s)
                self._enforce()
            try:
                await self._watch()
            except NotEnforced as error:
                self._failed(str(error))

    def fail(self, problem: str) -> None:
        """Close all ports because of this problem, and retry after the retry time."""
        self._failed(problem)

    # -- sessions

    def open_session(self, session: Session, seconds: int) -> str:
        """Open the path of a session for this time; return why that was refused, or "" if the path is open."""
        if self._problem:
            return f"the policy is not in force: {self._problem}"
        if session in self._sessions:
            return "the session's path is open already; close it first"
        try:
            self._backend.open_session(session, seconds)
        except NotEnforced as error:
            return str(error)
        self._sessions[session] = asyncio.get_running_loop().time() + seconds
        return ""

    def close_session(self, session: Session) -> None:
        """Close the path of a session. On return, no packets pass. If that fails, the ports are closed."""
        if self._sessions.pop(session, None) is None:
            return
        try:
            self._backend.close_session(session)
        except NotEnforced as error:
            self._failed(f"a session's path cannot be closed: {error}")

    async def open_path(self, path: Session, seconds: int) -> bool:
        """Open a path, for a box program in this process."""
        return not self.open_session(path, seconds)

    async def close_path(self, path: Session) -> None:
        """Close a path, for a box program in this process."""
        self.close_session(path)

    def _seconds_left(self) -> dict[Session, int]:
        """Return the open sessions with the whole seconds they have left; at 0, a missing path is not reopened."""
        now = asyncio.get_running_loop().time()
        return {session: max(0, int(ends - now)) for session, ends in self._sessions.items()}

    def _end_sessions_not_permitted(self) -> None:
        """End sessions that a newer policy does not permit."""
        if any(not self._backend.permits(session) for session in self._sessions):
            self._end_sessions("the policy no longer permits a session")

    def _end_sessions(self, reason: str) -> None:
        ended, self._sessions = self._sessions, {}
        for session in ended:
            with contextlib.suppress(NotEnforced):  # the kernel ends it after its time
                self._backend.close_session(session)
        if ended:
            self._on_event(PathsLost(reason))

    # -- open

    async def _watch(self) -> None:
        """Run until the policy is no longer in force and the ports are closed. Raises: NotEnforced."""
        self._broken.clear()
        stop = self._backend.watch(self._changed, self._seconds_left)
        try:
            while not self._problem:  # starting a watch repairs the table, which may have failed
                self._inspect()
                self._on_event(self.state())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._broken.wait(), self._inspection_s)
        finally:
            stop()

    def _inspect(self) -> None:
        """Inspect, open the ports in use, and only then enable forwarding. Raises: NotEnforced."""
        surroundings = self._backend.inspect()
        self._not_covered, self._limits = surroundings.not_covered, surroundings.limits
        if surroundings.repaired:
            self._on_event(surroundings)
        if surroundings.problem:
            raise NotEnforced(surroundings.problem)
        self._end_sessions_not_permitted()
        self._open_ports()
        self._backend.set_forwarding(True)
        self._refused = dict(self._backend.refused())

    def _open_ports(self) -> None:
        """Open the ports in use and close the others; report new faults."""
        for number in self._ports:
            in_use = number in self._backend.ports
            problem = self._set_up(number, in_use)
            if problem and problem != self._faults.get(number):
                self._on_event(PortFault(number, in_use, problem))
            self._faults[number] = problem

    def _changed(self, event: Alarm | Repair) -> None:
        if isinstance(event, Alarm):
            self._alarms += 1
            self._on_event(event)
            return
        self._repairs += event.in_force and bool(event.differences)
        self._on_event(event)
        if not event.in_force:
            self._failed(event.problem or f"other programs change it repeatedly: {event.differences[0]}")
            return
        try:
            self._inspect()  # a newer policy with other ports may be in force
        except NotEnforced as error:
            self._failed(str(error))
        else:
            self._on_event(self.state())

    # -- closed

    def _enforce(self) -> None:
        """Put the policy in force. Unless it already is, all ports are closed first, and stay closed for now."""
        try:
            if not self._backend.is_in_force():
                self._close_ports()
            self._backend.enforce()
        except NotEnforced as error:
            self._failed(str(error))
        else:
            self._problem = ""

    def _failed(self, problem: str) -> None:
        """Close all ports as far as possible, and report the problem."""
        self._problem = "; ".join([problem, *self._close_ports()])
        self._end_sessions(problem)
        with contextlib.suppress(NotEnforced):
            self._refused = dict(self._backend.refused())
        self._broken.set()
        self._on_event(self.state())

    def _close_ports(self) -> list[str]:
        """Disable forwarding and close all ports. Returns what could not be done."""
        problems = []
        try:
            self._backend.set_forwarding(False)
        except NotEnforced as error:
            problems.append(str(error))
        return problems + [problem for number in self._ports if (problem := self._set_up(number, False))]

    def _set_up(self, number: int, up: bool) -> str:
        """Open or close a port; return why that failed, or "". A port without an interface counts as closed."""
        try:
            self._ports[number].set_up(up)
        except EthernetError as error:
            return "" if error.kind is EthernetErrorKind.UNAVAILABLE and not up else str(error)
        return ""
