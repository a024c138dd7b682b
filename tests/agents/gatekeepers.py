"""A gatekeeper that does as it is told, and says what was asked of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents.firewall import NotEnforced, Told
from netfw.watch import Alarm, Repair


class FakeGatekeeper:
    """Ports 1 and 2 are in use. `problem` is what it fails with; `log` is what it did, with `seen()` at that time."""

    def __init__(self, seen: Callable[[], Any]) -> None:
        self.ports = (1, 2)
        self.problem = ""
        self.in_force = self.forwards = False
        self.packets: dict[str, int] = {}
        self.log: list[tuple[str, Any]] = []
        self._seen = seen
        self._told: Told | None = None

    def holds(self) -> bool:
        return self.in_force

    def enforce(self) -> None:
        self.log.append(("enforce", self._seen()))
        self._check()
        self.in_force = True

    def let_forward(self, allowed: bool) -> None:
        self.log.append((f"forward {allowed}", self._seen()))
        if allowed:
            self._check()
        self.forwards = allowed

    def watch(self, told: Told) -> Callable[[], None]:
        self._check()
        self._told = told
        return self._stop

    def refused(self) -> dict[str, int]:
        self._check()
        return dict(self.packets)

    # what befalls it

    @property
    def is_watching(self) -> bool:
        return self._told is not None

    def changed_by_others(self) -> None:
        """The change is repaired if there is no problem."""
        assert self._told is not None
        self._told(Alarm(4711, "nft"))
        self.in_force = not self.problem
        self._told(Repair(("a rule is missing",), self.in_force, self.problem))

    def _stop(self) -> None:
        self._told = None

    def _check(self) -> None:
        if self.problem:
            raise NotEnforced(self.problem)
