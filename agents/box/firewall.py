"""Runs the collector and the forwarder only while the firewall service confirms that the policy is in force.

The service (`netfw.service`) is a separate process. It opens and closes the instrument ports, so that the box program
needs no network privileges. If the service ends, the box stops serving; if the box ends, the service continues.

Audit events: firewall-in-force, firewall-not-in-force, firewall-changed (value: process id), firewall-repaired
(number of differences), firewall-settings-repaired (number of settings), port-not-opened and port-not-closed (with
the port), and refused-CAUSE (number of packets), with the causes in `netfw.ruleset.names`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from agents.box.health.audit import AuditLog
from hal.indicators import Light
from netfw.events import Alarm, Event, FirewallState, OutsideInspection, PathsLost, PortFault, Repair
from netfw.ruleset.sessions import Session
from wire.audit_events import AuditEvent

REFUSED_EVERY_SECONDS: Final = 3600.0
"""Interval at which the refused packets are written to the audit log, summed by cause."""

LogMessage: TypeAlias = Callable[[str], object]
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class FirewallService(Protocol):
    """Keeps the policy in force: `netfw.service.client`, or a `netfw.service.supervisor` in the same process."""

    async def follow(self, on_event: Callable[[Event], None]) -> None:
        """Pass each event to `on_event`, until cancelled.

        A `FirewallState` whose `in_force` is True confirms that the policy is in force. If it is False, `problem` is
        the reason, and instruments must not be served.
        """
        ...

    async def open_path(self, path: Session, seconds: int) -> bool:
        """Open the path of a session; the kernel closes it after `seconds`. Return whether it is open."""
        ...

    async def close_path(self, path: Session) -> None:
        """Close the path of a session. On return, no packets pass."""
        ...


@dataclass(frozen=True, slots=True)
class FirewallStatus:
    """The state of the firewall. Totals count from the start of the firewall service."""

    in_force: bool
    problem: str
    """Why the policy is not in force; "" if it is."""
    alarms: int
    """Number of changes by other programs."""
    repairs: int
    refused: Mapping[str, int]
    """Refused packets by cause, as last counted."""
    not_covered: tuple[str, ...] = ()
    """What the proof of the ruleset does not cover, one line each."""


class FirewallGuard:
    """Runs the box's work only while the policy is in force."""

    def __init__(
        self, service: FirewallService, show: Callable[[Light], None], log_message: LogMessage
    ) -> None:
        """`show` sets the alarm LED; `log_message` receives each new problem."""
        self._service, self._show, self._log_message = service, show, log_message
        self._state = FirewallState(
            in_force=False, problem="the firewall service has not answered yet", is_known=False
        )
        self._last_problem = ""
        self._noted: dict[str, int] | None = None
        self._noted_at = 0.0
        self._changed = asyncio.Event()
        self.paths_lost: Callable[[], object] = lambda: None
        """Called when the paths of sessions may have been closed, even if the policy is in force again."""

    def status(self) -> FirewallStatus:
        """Return the last reported state."""
        state = self._state
        return FirewallStatus(
            state.in_force, state.problem, state.alarms, state.repairs, state.refused, state.not_covered
        )

    def limit(self, name: str) -> tuple[int, int] | None:
        """Return the amount and limit of a bounded quantity of the firewall; None if unknown."""
        return self._state.limits.get(name)

    async def guard(self, audit: AuditLog, work: Work) -> None:
        """Run `work` while the policy is in force, until cancelled. After an error the state is unknown."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._service.follow(partial(self._record_event, audit)))
                while True:
                    await self._until(True)
                    try:
                        await self._work_while_in_force(work)
                    finally:
                        self._note_refused(audit)
        except Exception as error:
            self._update(
                audit,
                FirewallState(
                    in_force=False, problem=f"the state of the firewall is unknown: {error!r}", is_known=False
                ),
            )
            raise

    async def _work_while_in_force(self, work: Work) -> None:
        """Run `work`, and cancel it when the policy is no longer in force."""
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work())
            await self._until(False)
            working.cancel()

    async def _until(self, in_force: bool) -> None:
        while self._state.in_force is not in_force:
            self._changed.clear()
            await self._changed.wait()

    def _record_event(self, audit: AuditLog, event: Event) -> None:
        match event:
            case Alarm(pid):
                audit.note(AuditEvent.FIREWALL_CHANGED, pid)
            case Repair(differences, in_force=True):
                audit.note(AuditEvent.FIREWALL_REPAIRED, len(differences))
            case OutsideInspection(repaired):
                audit.note(AuditEvent.FIREWALL_SETTINGS_REPAIRED, len(repaired))
            case PortFault(port, to_open):
                audit.note(AuditEvent.PORT_NOT_OPENED if to_open else AuditEvent.PORT_NOT_CLOSED, port=port)
            case PathsLost():
                self.paths_lost()
            case FirewallState():
                self._update(audit, event)

    def _update(self, audit: AuditLog, state: FirewallState) -> None:
        before, self._state = self._state, state
        if not state.in_force:
            self.paths_lost()
            audit.note(AuditEvent.FIREWALL_NOT_IN_FORCE)
            self._show(Light.FAST)
            if state.problem != self._last_problem:
                self._last_problem = state.problem
                self._log_message(_explained(state))
        elif not before.in_force:
            self._last_problem = ""
            self._show(Light.OFF)
            audit.note(AuditEvent.FIREWALL_IN_FORCE)
        if self._noted is None:
            if state.in_force:
                self._noted, self._noted_at = dict(state.refused), asyncio.get_running_loop().time()
        elif asyncio.get_running_loop().time() - self._noted_at >= REFUSED_EVERY_SECONDS:
            self._note_refused(audit)
        self._changed.set()

    def _note_refused(self, audit: AuditLog) -> None:
        if self._noted is None:
            return
        now = self._state.refused
        for cause, packets in now.items():
            before = self._noted.get(cause, 0)
            if more := packets - before if packets >= before else packets:
                audit.note(AuditEvent(f"refused-{cause}"), more, unlimited=True)
        self._noted, self._noted_at = dict(now), asyncio.get_running_loop().time()


def _explained(state: FirewallState) -> str:
    if state.is_known:
        return f"the firewall is not in force, so instrument ports are closed: {state.problem}"
    return f"nothing confirms that the firewall is in force, so instruments are not served: {state.problem}"
