"""A configurable firewall backend that records its calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from netfw.events import Alarm, OutsideInspection, Repair
from netfw.ruleset.sessions import Session
from netfw.service.supervisor import NotEnforced


class FakeBackend:
    """A backend with ports 1 and 2, which fails with `problem` unless that is empty. `log` lists its calls, each with
    the result of `seen()` at that time, or the session.
    """

    def __init__(self, seen: Callable[[], Any]) -> None:
        self.ports = (1, 2)
        self.problem = ""
        self.surroundings = OutsideInspection()
        self.in_force = self.forwards = False
        self.packets: dict[str, int] = {}
        self.log: list[tuple[str, Any]] = []
        self._seen = seen
        self._on_event: Callable[[Alarm | Repair], None] | None = None

    def is_in_force(self) -> bool:
        return self.in_force

    def enforce(self) -> None:
        self.log.append(("enforce", self._seen()))
        self._check()
        self.in_force = True

    def set_forwarding(self, allowed: bool) -> None:
        self.log.append((f"forward {allowed}", self._seen()))
        if allowed:
            self._check()
        self.forwards = allowed

    def watch(
        self,
        on_event: Callable[[Alarm | Repair], None],
        sessions: Callable[[], Mapping[Session, int]],
    ) -> Callable[[], None]:
        self._check()
        self._on_event = on_event
        return self._stop

    def permits(self, session: Session) -> bool:
        return session.port in self.ports

    def open_session(self, session: Session, seconds: int) -> None:
        self.log.append((f"open {seconds}", session))
        self._check()

    def close_session(self, session: Session) -> None:
        self.log.append(("close", session))
        self._check()

    def inspect(self) -> OutsideInspection:
        return self.surroundings

    def refused(self) -> dict[str, int]:
        self._check()
        return dict(self.packets)

    # events

    @property
    def is_watching(self) -> bool:
        return self._on_event is not None

    def changed_by_others(self) -> None:
        """Report a change by another program, and its repair, which succeeds if there is no problem."""
        assert self._on_event is not None
        self._on_event(Alarm(4711, "nft"))
        self.in_force = not self.problem
        self._on_event(Repair(("a rule is missing",), self.in_force, self.problem))

    def _stop(self) -> None:
        self._on_event = None

    def _check(self) -> None:
        if self.problem:
            raise NotEnforced(self.problem)
