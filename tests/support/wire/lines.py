"""A line between two LIS1 ends in simulated time, and a reader that keeps messages unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from wire.messages import Alert
from wire.standards.engine import Action, Count, Deliver, Outcome, Send
from wire.standards.extract import Extract, Finding, Reason
from wire.standards.lis1.endpoint import Lis1Endpoint

NOTHING = Finding(Alert, ("E0001", "software", "info"))


@dataclass
class MessageKeeper:
    """A `MessageReader` for which a frame whose text ends with an L record ends a message."""

    messages: list[bytes] = field(default_factory=list)
    unfinished: bytes = b""

    def take(self, text: bytes, last: bool) -> Extract | None:
        self.unfinished += text
        if not (last and b"L|1" in self.unfinished):
            return None
        self.messages.append(self.unfinished)
        self.unfinished = b""
        return Extract([NOTHING])

    def end(self, complete: bool) -> Extract | None:
        unfinished, self.unfinished = self.unfinished, b""
        extract = Extract()
        extract.counts[Reason.MESSAGE_UNFINISHED] += bool(unfinished)
        return extract if unfinished else None


def sent(actions: Sequence[Action]) -> bytes:
    return b"".join(action.data for action in actions if isinstance(action, Send))


def counted(actions: Sequence[Action]) -> list[Reason]:
    return [action.reason for action in actions if isinstance(action, Count)]


def stored(endpoint: Lis1Endpoint, actions: list[Action], now: float) -> list[Action]:
    """Return the actions, and those that follow if each delivery is stored."""
    actions = list(actions)
    while actions and isinstance(actions[-1], Deliver):
        actions += endpoint.decided(Outcome.STORED, now)
    return actions


@dataclass
class Line:
    """Two ends; bytes take no time. `lose` is the number of replies of the host that do not arrive."""

    instrument: Lis1Endpoint
    host: Lis1Endpoint
    now: float = 0.0
    log: list[tuple[float, str, bytes]] = field(default_factory=list)
    counts: list[Reason] = field(default_factory=list)
    lose: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    """Outcomes of the first deliveries at the host; everything else is stored."""

    def carry(self, actions: list[Action], sender: str) -> None:
        """Transmit bytes in both directions until both ends wait."""
        flows = [(sender, actions)]
        while flows:
            name, actions = flows.pop(0)
            self.counts += counted(actions) if name == "host" else []
            for action in actions:
                if isinstance(action, Send):
                    self.log.append((self.now, name, action.data))
                    if name == "host" and self.lose:
                        self.lose -= 1
                        continue
                    other = "instrument" if name == "host" else "host"
                    flows.append((other, self._end(other).receive(action.data, self.now)))
                elif isinstance(action, Deliver):
                    outcome = self.outcomes.pop(0) if self.outcomes else Outcome.STORED
                    flows.append((name, self._end(name).decided(outcome, self.now)))

    def run(self, until: float) -> None:
        """Let the time limits until this time expire, in order."""
        while due := [(end.deadline, name) for name, end in self._ends() if end.deadline is not None]:
            deadline, name = min(due)
            if deadline > until:
                break
            self.now = max(self.now, deadline)
            self.carry(self._end(name).expired(self.now), name)
        self.now = until

    def sent_by(self, name: str) -> list[tuple[float, bytes]]:
        return [(when, data) for when, sender, data in self.log if sender == name]

    def _ends(self) -> list[tuple[str, Lis1Endpoint]]:
        return [("instrument", self.instrument), ("host", self.host)]

    def _end(self, name: str) -> Lis1Endpoint:
        return dict(self._ends())[name]
