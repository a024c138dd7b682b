"""The box works only while the firewall service confirms that the policy is in force.

The service (`netfw.service`) is a process of its own. It opens and closes the instrument ports; the box program needs
no right over the network for that. Each survives the other's end: without a confirmation the box stops serving, and
without the box the service goes on watching.

Words in the audit log: firewall-in-force, firewall-not-in-force, firewall-changed (by which process),
firewall-repaired (how many differences), firewall-settings-repaired (how many), port-not-opened and port-not-closed
(which), and refused-CAUSE (how many packets), with causes as in `netfw.ruleset.names`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from agents.box.health.audit import AuditLog
from hal.indicators import Light
from netfw.events import Alarm, Event, FirewallState, PortFault, Repair, Surroundings
from wire.audit_events import AuditEvent

REFUSED_EVERY_SECONDS: Final = 3600.0
"""How often packets refused since the last time go into the audit log, as a sum for each cause."""

Say: TypeAlias = Callable[[str], object]
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class FirewallService(Protocol):
    """What keeps the policy in force: `netfw.service.client`, or a `netfw.service.supervisor` in the same process."""

    async def follow(self, heard: Callable[[Event], None]) -> None:
        """Report each event to `heard`, until cancelled.

        A State with `in_force` is a confirmation; one without says why instruments must not be served. While there
        is no confirmation, for whatever reason, there is such a State.
        """
        ...


@dataclass(frozen=True, slots=True)
class FirewallStatus:
    """The state of the firewall. Totals are those since the firewall service started."""

    in_force: bool
    problem: str
    """Why it is not; "" if it is."""
    alarms: int
    """How often another program changed it."""
    repairs: int
    refused: Mapping[str, int]
    """Packets by cause, when they were last counted."""
    not_covered: tuple[str, ...] = ()
    """What the proof does not cover, a line each."""


class FirewallGuard:
    """Lets a box work while the policy is in force, and only then."""

    def __init__(self, service: FirewallService, show: Callable[[Light], None], say: Say) -> None:
        """`show` lights the alarm LED, `say` takes each new problem, for the person at the machine."""
        self._service, self._show, self._say = service, show, say
        self._state = FirewallState(
            in_force=False, problem="the firewall service has not answered yet", is_known=False
        )
        self._said = ""
        self._noted: dict[str, int] | None = None
        self._noted_at = 0.0
        self._changed = asyncio.Event()

    def status(self) -> FirewallStatus:
        """The state that was last reported."""
        state = self._state
        return FirewallStatus(
            state.in_force, state.problem, state.alarms, state.repairs, state.refused, state.not_covered
        )

    def limit(self, name: str) -> tuple[int, int] | None:
        """The amount and the limit of something bounded that the firewall uses; None if they are not known."""
        return self._state.limits.get(name)

    async def guard(self, audit: AuditLog, work: Work) -> None:
        """Do `work` while the policy is in force, until cancelled. After an error the state is not known any more."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._service.follow(partial(self._heard, audit)))
                while True:
                    await self._until(True)
                    try:
                        await self._work_while_in_force(work)
                    finally:
                        self._note_refused(audit)
        except Exception as error:
            self._take(
                audit,
                FirewallState(in_force=False, problem=f"its state is not known: {error!r}", is_known=False),
            )
            raise

    async def _work_while_in_force(self, work: Work) -> None:
        """Ends with `work` cancelled when the policy is no longer in force."""
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work())
            await self._until(False)
            working.cancel()

    async def _until(self, in_force: bool) -> None:
        while self._state.in_force is not in_force:
            self._changed.clear()
            await self._changed.wait()

    def _heard(self, audit: AuditLog, event: Event) -> None:
        match event:
            case Alarm(pid):
                audit.note(AuditEvent.FIREWALL_CHANGED, pid)
            case Repair(differences, in_force=True):
                audit.note(AuditEvent.FIREWALL_REPAIRED, len(differences))
            case Surroundings(repaired):
                audit.note(AuditEvent.FIREWALL_SETTINGS_REPAIRED, len(repaired))
            case PortFault(port, to_open):
                audit.note(AuditEvent.PORT_NOT_OPENED if to_open else AuditEvent.PORT_NOT_CLOSED, port=port)
            case FirewallState():
                self._take(audit, event)

    def _take(self, audit: AuditLog, state: FirewallState) -> None:
        before, self._state = self._state, state
        if not state.in_force:
            audit.note(AuditEvent.FIREWALL_NOT_IN_FORCE)
            self._show(Light.FAST)
            if state.problem != self._said:
                self._said = state.problem
                self._say(_explained(state))
        elif not before.in_force:
            self._said = ""
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
