"""The box without its firewall passes nothing: ports open after the policy is in force, and close when it is not.

    closed ──enforced──▶ open: the policy is watched, instruments are served, records are forwarded
      ▲  └─ not yet: told, audited, tried again                        │
      └──────────── cannot be put in force again ◀─────────────────────┘

What the kernel does is behind `Gatekeeper`. When the program ends, however it ends, the policy stays in force and
the ports stay as they are. The next start finds it in force and keeps it, so that there is no gap; where it is not,
closing the ports comes first, even before the spool is opened.

Words in the audit log: firewall-in-force, firewall-not-in-force, firewall-changed (by which process),
firewall-repaired (how many differences), port-not-opened and port-not-closed (which), and refused-CAUSE (how many
packets), with causes as in `netfw.names`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from agents.audit import AuditLog
from hal.ethernet import EthernetError, EthernetErrorKind, EthernetPort
from hal.indicators import IndicatorError, Indicators, Light
from netfw.watch import Alarm, Repair

REFUSED_EVERY_SECONDS: Final = 3600.0
"""How often packets refused since the last time go into the audit log, as a sum for each cause."""
LED: Final = "alarm"

Told: TypeAlias = Callable[[Alarm | Repair], None]
Say: TypeAlias = Callable[[str], object]
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class NotEnforced(Exception):
    """The policy is not wholly in force; the message says why."""


class Gatekeeper(Protocol):
    """What puts a policy in force. Every call is quick enough for the event loop's thread."""

    @property
    def ports(self) -> Collection[int]:
        """The instrument ports that the policy has in use; the others stay closed."""
        ...

    def holds(self) -> bool:
        """Whether exactly the policy is in force now. Never fails: what cannot be found out is not so."""
        ...

    def enforce(self) -> None:
        """On return the policy is in force, and was read back. Errors: NotEnforced."""
        ...

    def let_forward(self, allowed: bool) -> None:
        """Let packets pass between interfaces, if the policy needs that at all; or none. Errors: NotEnforced."""
        ...

    def watch(self, told: Told) -> Callable[[], None]:
        """Repair what others change, until the result is called. Errors: NotEnforced.

        `told` is called with each change by others (Alarm), and what became of it (Repair).
        """
        ...

    def refused(self) -> Mapping[str, int]:
        """Packets refused until now, by cause. It may begin anew at 0. Errors: NotEnforced."""
        ...


@dataclass(frozen=True, slots=True)
class FirewallStatus:
    """How the firewall is. Totals are those since the program started."""

    in_force: bool
    problem: str
    """Why it is not; "" if it is."""
    alarms: int
    """How often somebody else changed it."""
    repairs: int
    refused: Mapping[str, int]
    """Packets by cause, when they were last counted."""


class Doorkeeper:
    """Opens and closes a box's ports. Begins with `secure`; then `guard`."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        ports: Mapping[int, EthernetPort],
        indicators: Indicators | None,
        retry_s: float,
        say: Say,
    ) -> None:
        """`ports` are all instrument ports of the board; `say` takes each new problem, for whoever stands by."""
        self._gatekeeper, self._ports, self._indicators = gatekeeper, ports, indicators
        self._retry_s, self._say = retry_s, say
        self._problem = "it was not put in force yet"
        self._said = ""
        self._alarms = self._repairs = 0
        self._refused: dict[str, int] = {}
        self._broken = asyncio.Event()

    def status(self) -> FirewallStatus:
        """How it is now."""
        problem = self._problem
        return FirewallStatus(not problem, problem, self._alarms, self._repairs, self._refused)

    def secure(self) -> None:
        """Put the policy in force. Unless it is already, all ports are closed before, and stay so for now."""
        try:
            if not self._gatekeeper.holds():
                self._shut()
            self._gatekeeper.enforce()
        except NotEnforced as error:
            self._failed(str(error))
        else:
            self._problem = ""

    async def guard(self, audit: AuditLog, work: Work) -> None:
        """Do `work` while the policy is in force, and only then, until cancelled or the work fails."""
        while True:
            while self._problem:
                self._tell(audit)
                await asyncio.sleep(self._retry_s)
                self.secure()
            try:
                await self._work_while_in_force(audit, work)
            except NotEnforced as error:
                self._failed(str(error))

    # -- open -------------------------------------------------------------------------------------------

    async def _work_while_in_force(self, audit: AuditLog, work: Work) -> None:
        """Ends when the policy is no longer in force, with ports closed and `work` cancelled. Errors: NotEnforced."""
        self._broken.clear()
        stop = self._gatekeeper.watch(partial(self._heard, audit))
        try:
            if self._problem:  # repairing was the first thing to do, and it failed
                return
            self._open(audit)
            await self._work_until_broken(audit, work)
        finally:
            stop()

    async def _work_until_broken(self, audit: AuditLog, work: Work) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                working = [tasks.create_task(it) for it in (work(), self._look_after(audit))]
                await self._broken.wait()
                for task in working:
                    task.cancel()
        finally:
            self._note_refused(audit)

    def _open(self, audit: AuditLog) -> None:
        """Open the ports in use, and only then let packets pass between interfaces. Errors: NotEnforced."""
        self._refused = dict(self._gatekeeper.refused())
        self._open_ways(audit)
        self._said = ""
        self._show(Light.OFF)
        audit.note("firewall-in-force")

    async def _look_after(self, audit: AuditLog) -> None:
        """Now and then: ports that came back, as the kernel gives them, are closed; and counts are to be noted."""
        loop = asyncio.get_running_loop()
        noted_at = loop.time()
        while True:
            await asyncio.sleep(self._retry_s)
            self._open_ports(audit)
            if loop.time() - noted_at >= REFUSED_EVERY_SECONDS:
                noted_at = loop.time()
                self._note_refused(audit)

    def _open_ways(self, audit: AuditLog) -> None:
        """Errors: NotEnforced."""
        self._open_ports(audit)
        self._gatekeeper.let_forward(True)

    def _open_ports(self, audit: AuditLog) -> None:
        """Open those in use, and close the others; what is so already stays so."""
        for number in self._ports:
            in_use = number in self._gatekeeper.ports
            if self._set_up(number, in_use):
                audit.note("port-not-opened" if in_use else "port-not-closed", port=number)

    def _heard(self, audit: AuditLog, event: Alarm | Repair) -> None:
        if isinstance(event, Alarm):
            self._alarms += 1
            audit.note("firewall-changed", event.pid)
        elif event.in_force:
            self._repairs += bool(event.differences)
            audit.note("firewall-repaired", len(event.differences))
            self._open_again(audit)
        else:
            why = event.problem or f"others change it again and again: {event.differences[0]}"
            self._failed(why)

    def _open_again(self, audit: AuditLog) -> None:
        """It may be a newer policy that is in force, with other ports in use."""
        try:
            self._open_ways(audit)
        except NotEnforced as error:
            self._failed(str(error))

    def _note_refused(self, audit: AuditLog) -> None:
        try:
            now = dict(self._gatekeeper.refused())
        except NotEnforced:
            return  # told elsewhere; what there was to count is gone
        for cause, packets in now.items():
            before = self._refused.get(cause, 0)
            if more := packets - before if packets >= before else packets:
                audit.note(f"refused-{cause}", more, unlimited=True)
        self._refused = now

    # -- closed -----------------------------------------------------------------------------------------

    def _failed(self, problem: str) -> None:
        """Close everything, whatever of it can be closed, and remember why."""
        self._problem = "; ".join([problem, *self._shut()])
        self._broken.set()

    def _shut(self) -> list[str]:
        """Let nothing pass between interfaces, and close all ports. Returns what could not be done."""
        problems = []
        try:
            self._gatekeeper.let_forward(False)
        except NotEnforced as error:
            problems.append(str(error))
        return problems + [why for number in self._ports if (why := self._set_up(number, False))]

    def _set_up(self, number: int, up: bool) -> str:
        """Open or close a port; returns why that could not be done, or "". What is gone is closed."""
        try:
            self._ports[number].set_up(up)
        except EthernetError as error:
            return "" if error.kind is EthernetErrorKind.GONE and not up else str(error)
        return ""

    def _tell(self, audit: AuditLog) -> None:
        """Tell of the problem everybody who may want to know."""
        audit.note("firewall-not-in-force")
        self._show(Light.FAST)
        if self._problem != self._said:
            self._said = self._problem
            self._say(f"the firewall is not in force, so instrument ports are closed: {self._problem}")

    def _show(self, light: Light) -> None:
        if self._indicators is not None:
            with contextlib.suppress(IndicatorError):  # a board without this light
                self._indicators.show(LED, light)
