"""Plays the script of a recorded conversation against an engine in virtual time."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support.wire.instrument_cases import InstrumentCase, Played, note
from wire.standards.engine import Action, Engine, Outcome, Send

REPLY_S = 15.0
"""How long an instrument waits for an answer."""


@dataclass
class ScriptPlayer:
    """Feeds an engine with the pieces of a script, and compares its answers."""

    engine: Engine
    played: Played = field(default_factory=Played)
    now: float = 0.0
    wrong: list[str] = field(default_factory=list)
    """What was answered otherwise, a line each; empty if all is right."""
    replies: list[tuple[float, bytes]] = field(default_factory=list)
    """Bytes on their way to the instrument, by time."""
    sent_at: float = 0.0

    def run(self, script: Sequence[str], data: bytes, split: Callable[[bytes], list[bytes]]) -> Played:
        """Play all steps; each piece arrives as `split` divides it."""
        for step in script:
            verb, _, rest = step.partition(" ")
            if verb == "send":
                first, end = map(int, rest.split())
                for piece in split(data[first:end]):
                    self._act(self.engine.receive(piece, self.now))
                self.sent_at = self.now
            elif verb == "reply":
                self._reply(rest)
            elif verb == "wait":
                self._wait(self.now + float(rest.rstrip("s")))
            elif verb == "silence":
                self._wait(self.now)
                self._nothing(step)
        self._wait(self.now + 60)
        self._nothing("the end")
        note(self.played, self.engine.closed(self.now))
        return self.played

    def _reply(self, text: str) -> None:
        found = re.fullmatch(r"([0-9A-F ]+?)(?: after ([\d.]+)s before ([\d.]+)s)?", text)
        assert found is not None, text
        after, before = float(found[2] or 0), float(found[3] or REPLY_S)
        for byte in bytes.fromhex(found[1]):
            self._wait(self.sent_at + before, until_reply=True)
            when, data = heapq.heappop(self.replies) if self.replies else (self.now, b"")
            if data != bytes([byte]) or when < self.sent_at + after:
                self.wrong.append(f"{byte:02X} expected, {data.hex()} after {when - self.sent_at} s")

    def _nothing(self, step: str) -> None:
        if self.replies:
            self.wrong.append(f"{step}: {[data.hex() for _, data in self.replies]} sent")

    def _wait(self, until: float, *, until_reply: bool = False) -> None:
        while True:
            due = [
                time
                for time in (self.engine.deadline, *(when for when, _ in self.replies[:1]))
                if time is not None
            ]
            if until_reply and self.replies and self.replies[0][0] <= min(due):
                self.now = max(self.now, self.replies[0][0])
                return
            deadline = self.engine.deadline
            if deadline is None or deadline > until:
                break
            self.now = max(self.now, deadline)
            self._act(self.engine.expired(self.now))
        self.now = max(self.now, until) if not until_reply else self.now

    def _act(self, actions: Sequence[Action]) -> None:
        while True:
            for action in actions:
                if isinstance(action, Send):
                    for byte in action.data:
                        heapq.heappush(self.replies, (self.now + action.after_s, bytes([byte])))
            if not note(self.played, actions):
                return
            actions = self.engine.decided(Outcome.STORED, self.now)


def whole(piece: bytes) -> list[bytes]:
    """Each piece as it is."""
    return [piece]


def bytewise(piece: bytes) -> list[bytes]:
    """Each byte alone."""
    return [piece[position : position + 1] for position in range(len(piece))]


def play_script(
    engine: Engine, case: InstrumentCase, split: Callable[[bytes], list[bytes]] = whole, data: bytes = b""
) -> ScriptPlayer:
    """Play a case; `data` replaces the bytes of its file."""
    player = ScriptPlayer(engine)
    player.run(case.script, data or case.data, split)
    return player
