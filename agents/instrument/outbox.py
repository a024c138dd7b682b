"""What an instrument's agent has still to deliver: queues with a limit, and what became of each number.

Reports of one priority leave by rising number, and what was posted is posted again, as it was, before anything else:
the box's marks rely on it. An instrument has little memory to spare: when the box is away for long the oldest routine
reports are dropped, and their numbers kept; alerts and results of commands never are.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from settings.ranges import RangeSet
from wire.messages import REPORTS_PER_POST_MAX, Alert, CommandResult, InstrumentReport

QUEUE_REPORTS_MAX: Final = 20_000


class Outbox:
    """Reports until they are acknowledged. `acknowledged` and `dropped` are sets of their numbers."""

    def __init__(self, reports_max: int = QUEUE_REPORTS_MAX) -> None:
        self.acknowledged = RangeSet()
        self.dropped = RangeSet()
        self._reports_max = reports_max
        self._alerts: deque[InstrumentReport] = deque()
        self._results: deque[InstrumentReport] = deque()
        self._routine: deque[InstrumentReport] = deque()
        self._posting: list[InstrumentReport] = []
        self._singly = False

    def __len__(self) -> int:
        return len(self._posting) + len(self._alerts) + len(self._results) + len(self._routine)

    def put(self, report: InstrumentReport) -> None:
        """Add the newest report; the oldest routine one that is not being posted may have to make room."""
        if isinstance(report, Alert):
            self._alerts.append(report)
        elif isinstance(report, CommandResult):
            self._results.append(report)
        else:
            self._routine.append(report)
        if self._routine and len(self) > self._reports_max:
            self._drop(self._routine.popleft())

    def post(self) -> list[InstrumentReport]:
        """What to post now: the same again until `posted` or `refused`, alerts before all others."""
        if not self._posting:
            for queue in (self._alerts, self._results, self._routine):
                while queue and len(self._posting) < REPORTS_PER_POST_MAX:
                    self._posting.append(queue.popleft())
        return self._posting[:1] if self._singly else self._posting

    @property
    def posts_one(self) -> bool:
        """Whether one report is being posted, so that a refusal can only be about that."""
        return len(self._posting) == 1 or self._singly

    def posted(self) -> list[InstrumentReport]:
        """The box has what `post` gave; returns that."""
        done = self.post()
        for report in done:
            self.acknowledged.add(report.number, report.number)
        self._forget(done)
        return done

    def refused(self) -> None:
        """The box cannot read what `post` gave: try these reports one by one, and give the culprit up."""
        if self.posts_one:
            self._drop(self._posting[0])
            self._forget(self._posting[:1])
        else:
            self._singly = True

    def _forget(self, done: list[InstrumentReport]) -> None:
        self._posting = self._posting[len(done) :]
        self._singly = self._singly and bool(self._posting)

    def _drop(self, report: InstrumentReport) -> None:
        self.dropped.add(report.number, report.number)
