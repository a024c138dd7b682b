# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Instrument ports open after the policy is in force, and close when it is not.

    closed ──enforced──▶ open: the policy is watched, kernel settings are inspected
      ▲  └─ not yet: reported, tried again                             │
      └──────────── cannot be put in force again ◀─────────────────────┘

What the kernel does is behind `FirewallBackend`. When the service ends, however it ends, the policy stays in force
and the ports stay as they are. The next start finds it in force and keeps it, so that there is no gap; where it is
not, the ports are closed first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import Final, NoReturn, Protocol, TypeAlias

from hal.ethernet import EthernetError, EthernetErrorKind, EthernetPort
from netfw.events import Alarm, Event, FirewallState, PortFault, Repair, Surroundings

LOOK_SECONDS: Final = 10.0
"""How often ports, kernel settings and counters are looked at while the policy is in force."""

Heard: TypeAlias = Callable[[Event], None]


class NotEnforced(Exception):
    """The policy is not wholly in force; the message says why."""


class FirewallBackend(Protocol):
    """What puts a policy in force. The calls block; the supervisor makes them on its event loop's thread."""

    @property
    def ports(self) -> Collection[int]:
        """The instrument ports that the policy has in use; the others stay closed."""
        ...

    def holds(self) -> bool:
        """Whether exactly the policy is in force now. Never fails: what cannot be determined counts as false."""
        ...

    def enforce(self) -> None:
        """On return the policy is in force, and was read back. Raises: NotEnforced."""
        ...

    def let_forward(self, allowed: bool) -> None:
        """Let packets pass between interfaces, if the policy needs that at all; or none. Raises: NotEnforced."""
        ...

    def watch(self, heard: Callable[[Alarm | Repair], None]) -> Callable[[], None]:
        """Repair what others change, until the result is called. Raises: NotEnforced.

        `heard` is called with each change by others (Alarm), and with its repair (Repair).
        """
        ...

    def inspect(self) -> Surroundings:
        """Look at what lies around the table, and put back the settings that are the firewall's.

        Called every `LOOK_SECONDS` and after each change by others. Raises: NotEnforced.
        """
        ...

    def refused(self) -> Mapping[str, int]:
        """Packets refused until now, by cause. It may begin anew at 0. Raises: NotEnforced."""
        ...


class Supervisor:
    """Keeps a policy in force, and opens and closes a board's ports accordingly."""

    def __init__(
        self,
        backend: FirewallBackend,
        ports: Mapping[int, EthernetPort],
        retry_s: float,
        look_s: float = LOOK_SECONDS,
    ) -> None:
        """`ports` are all instrument ports of the board.

        `retry_s` is the time until enforcing is tried again, `look_s` the time between inspections.
        """
        self._backend, self._ports = backend, ports
        self._retry_s, self._look_s = retry_s, look_s
        self._problem = "the policy has not been put in force yet"
        self._not_covered: tuple[str, ...] = ()
        self._limits: dict[str, tuple[int, int]] = {}
        self._alarms = self._repairs = 0
        self._refused: dict[str, int] = {}
        self._faults: dict[int, str] = {}
        self._broken = asyncio.Event()
        self._heard: Heard = lambda _event: None

    def state(self) -> FirewallState:
        """The present state."""
        return FirewallState(
            not self._problem,
            self._problem,
            self._not_covered,
            self._alarms,
            self._repairs,
            dict(self._refused),
            self._limits,
        )

    async def follow(self, heard: Heard) -> NoReturn:
        """Keep the policy in force until cancelled, and report each event to `heard`.

        A State is reported at each failure to have the policy in force, and at each look while it is.
        """
        self._heard = heard
        self._secure()
        while True:
            while self._problem:
                await asyncio.sleep(self._retry_s)
                self._secure()
            try:
                await self._watch()
            except NotEnforced as error:
                self._failed(str(error))

    def fail(self, problem: str) -> None:
        """Close all ports because of this problem, and begin again after the retry time."""
        self._failed(problem)

    # -- open

    async def _watch(self) -> None:
        """Ends when the policy is no longer in force, with ports closed. Raises: NotEnforced."""
        self._broken.clear()
        stop = self._backend.watch(self._changed)
        try:
            while not self._problem:  # the first thing a watch does is to repair, which may have failed
                self._look()
                self._heard(self.state())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._broken.wait(), self._look_s)
        finally:
            stop()

    def _look(self) -> None:
        """Inspect, open the ports in use, and only then let packets pass between interfaces. Raises: NotEnforced."""
        found = self._backend.inspect()
        self._not_covered, self._limits = found.not_covered, found.limits
        if found.repaired:
            self._heard(found)
        if found.problem:
            raise NotEnforced(found.problem)
        self._open_ports()
        self._backend.let_forward(True)
        self._refused = dict(self._backend.refused())

    def _open_ports(self) -> None:
        """Open those in use, and close the others; what is so already stays so."""
        for number in self._ports:
            in_use = number in self._backend.ports
            problem = self._set_up(number, in_use)
            if problem and problem != self._faults.get(number):
                self._heard(PortFault(number, in_use, problem))
            self._faults[number] = problem

    def _changed(self, event: Alarm | Repair) -> None:
        if isinstance(event, Alarm):
            self._alarms += 1
            self._heard(event)
            return
        self._repairs += event.in_force and bool(event.differences)
        self._heard(event)
        if not event.in_force:
            self._failed(event.problem or f"others change it again and again: {event.differences[0]}")
            return
        try:
            self._look()  # it may be a newer policy that is in force, with other ports in use
        except NotEnforced as error:
            self._failed(str(error))
        else:
            self._heard(self.state())

    # -- closed

    def _secure(self) -> None:
        """Put the policy in force. Unless it is already, all ports are closed before, and stay so for now."""
        try:
            if not self._backend.holds():
                self._shut()
            self._backend.enforce()
        except NotEnforced as error:
            self._failed(str(error))
        else:
            self._problem = ""

    def _failed(self, problem: str) -> None:
        """Close all ports, whatever of them can be closed, and report why."""
        self._problem = "; ".join([problem, *self._shut()])
        with contextlib.suppress(NotEnforced):
            self._refused = dict(self._backend.refused())
        self._broken.set()
        self._heard(self.state())

    def _shut(self) -> list[str]:
        """Let nothing pass between interfaces, and close all ports. Returns what could not be done."""
        problems = []
        try:
            self._backend.let_forward(False)
        except NotEnforced as error:
            problems.append(str(error))
        return problems + [why for number in self._ports if (why := self._set_up(number, False))]

    def _set_up(self, number: int, up: bool) -> str:
        """Open or close a port; returns why that failed, or "". A port without an interface is closed."""
        try:
            self._ports[number].set_up(up)
        except EthernetError as error:
            return "" if error.kind is EthernetErrorKind.UNAVAILABLE and not up else str(error)
        return ""
