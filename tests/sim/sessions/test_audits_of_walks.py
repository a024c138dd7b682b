"""The verification of audit files accepts the records of both ends from random walks through the explored model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest

from sim.sessions.model import ALL, BOX, DC, ModelSession, Setting, others
from sim.sessions.moves import Moves
from sim.sessions.mutants import without
from sim.sessions.surroundings import SettingChange, shifts
from tests.support.wire.grants import DATACENTER, ISSUED, OFFER, granted
from tests.support.wire.session_audits import Audits, verdict
from wire.session.audit import Kind, SessionRecord
from wire.session.grant import PresenceEvidence, PresenceWay, sign_offer
from wire.session.table import TABLE, Event, Row, SessionState
from wire.session.verify import AuditVerdict

TICK_MS = 1_800_000
"""The lifetime of an offer is one tick of the model."""
NAMES = ("dc", "box")


@dataclass
class Walk:
    """A random walk through the model, and the audit records of both ends."""

    random: Random
    table: Sequence[Row] = TABLE
    sessions: int = 2
    disturbances: int = 2
    audits: Audits = field(default_factory=Audits)

    def __post_init__(self) -> None:
        self.moves = Moves(self.table)
        self.setting, self.walked = Setting(), [ModelSession()] * self.sessions
        self.steps = 0
        self.starts_ms, self.runs = [0, 0], [1, 1]
        self.offers = [
            sign_offer(replace(OFFER, id=bytes([number]) * 16), DATACENTER) for number in range(self.sessions)
        ]
        self.grants: dict[int, bytes] = {}

    def go(self, steps: int) -> AuditVerdict:
        """Take random steps, then only those that clocks and operating systems cause, until there are none."""
        while self.step(only_fair=steps <= 0):
            steps -= 1
        for end, other in ((DC, BOX), (BOX, DC)):
            self.audits.records[NAMES[end]].append(self.record(end, "head"))
            self.audits.records[NAMES[other]].append(self.record(other, "peer head"))
        return verdict(self.audits.files())

    def step(self, only_fair: bool) -> bool:
        """Take one step; return False if none is possible."""
        local = [
            (index, move)
            for index, session in enumerate(self.walked)
            for move in self.moves.after(
                self.setting,
                session,
                others(self.walked[:index] + self.walked[index + 1 :]),
                self.disturbances > 0,
            )
            if move.session != session and "only recorded" not in move.text  # two records for one move
        ]
        is_due = any(move.is_due for _, move in local)
        joint = [
            shift
            for shift in shifts(self.setting, self.moves, ALL, self.disturbances > 0)
            if not (shift.is_tick and is_due) and not shift.text.startswith("the audit log")
        ]
        if only_fair:
            local = [(index, move) for index, move in local if move.is_due]
            joint = [shift for shift in joint if shift.is_fair]
        if not local and not joint:
            return False
        self.steps += 1
        advancing = [
            (index, move) for index, move in local if move.row and move.row.next is not SessionState.ENDING
        ]
        if advancing and self.random.random() < 0.9:  # otherwise most walks would end early and test little
            local = advancing
        if joint and (not local or self.random.random() < 0.05):
            self.shift(self.random.choice(joint))
        else:
            index, move = self.random.choice(local)
            self.walked[index] = move.session
            self.disturbances -= move.cost
            if move.row:
                self.write(index, move.end, move.row)
        return True

    def shift(self, shift: SettingChange) -> None:
        """Change the setting of all sessions, and record the ends of sessions at an end that restarts."""
        before, self.setting = self.setting, shift.setting
        self.disturbances -= shift.cost
        sessions = list(map(shift.effect, self.walked))
        for end in (DC, BOX):
            if shift.setting.up[end] and not before.up[end]:
                self.starts_ms[end], self.runs[end] = self.now_ms, self.runs[end] + 1
                for index, session in enumerate(sessions):
                    if (
                        session.states[end] is SessionState.ENDING
                        and self.walked[index].states[end] is not session.states[end]
                    ):
                        row = next(
                            row
                            for row in self.table
                            if row.event is Event.RESTARTED and ENDS[end] in row.ends
                        )
                        self.write(index, end, row)
        self.walked = sessions

    @property
    def now_ms(self) -> int:
        return self.setting.time * TICK_MS + self.steps

    def record(self, end: int, kind: Kind, **content: Any) -> SessionRecord:
        return SessionRecord(
            at_ms=ISSUED * 1000 + self.now_ms,
            monotonic_ms=self.now_ms - self.starts_ms[end],
            run=str(self.runs[end]),
            kind=kind,
            **content,
        )

    def write(self, index: int, end: int, row: Row) -> None:
        """Write the audit record of an executed row of the transition table."""
        message, deadline_ms = b"", 0
        if row.event in (Event.REQUEST, Event.OFFER_RECEIVED):
            message = self.offers[index]
            deadline_ms = self.walked[index].deadlines[end] * TICK_MS - self.starts_ms[end]
        elif row.event is Event.AUTHORIZE:
            at = ISSUED + self.now_ms // 1000
            evidence = (PresenceEvidence(PresenceWay.SWITCH, "switch 1", at),)
            message = self.grants[index] = granted(self.offers[index], evidence)
        elif row.event is Event.GRANT_RECEIVED:
            message = self.grants.get(index, b"")
        record = self.record(
            end,
            "transition",
            session=(bytes([index]) * 16).hex(),
            event=str(row.event),
            actor=str(row.actors[0]),
            state=str(row.next),
            cause=str(row.cause or ""),
            deadline_ms=deadline_ms,
            message=message.hex(),
        )
        self.audits.records[NAMES[end]].append(record)


ENDS = ("data center", "box")


@pytest.mark.parametrize("part", range(2))
def test_every_walk_is_proven(part: int) -> None:
    tunnels = 0
    for seed in range(part * 75, part * 75 + 75):
        result = Walk(Random(seed)).go(steps=60)
        assert result.is_proven, (seed, result)
        tunnels += any(session.tunnel_ms for session in result.sessions)
    assert tunnels > 5


@pytest.mark.parametrize(
    ("guard", "problem"),
    [
        ("grant_verified", "had a tunnel without a grant"),
        ("id_unused", "does not lead from ended to offered"),
        ("unexpired", "after the deadline"),
        ("tunnel_free", "had a tunnel of the same box at the same time"),
        ("deadline_reached", ""),
    ],
)
def test_the_audit_files_show_a_missing_guard_that_protects_consent(guard: str, problem: str) -> None:
    """Without `deadline_reached` sessions only expire early, which is no problem."""
    problems = set()
    for seed in range(60):
        result = Walk(Random(seed), without(guard)).go(steps=60)
        problems |= {*result.problems, *(one for session in result.sessions for one in session.problems)}
    assert any(problem in one for one in problems) if problem else not problems
