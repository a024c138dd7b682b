"""The bounded queue of an instrument's unacknowledged reports.

Reports of one priority are sent in ascending order, and an unacknowledged request is repeated unchanged before
anything else is sent: the box's high-water marks rely on it. Instruments have little memory: when the queue is full,
the oldest routine reports are dropped and their numbers remembered. Alerts and reports about commands are not dropped
for lack of space.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from settings.ranges import RangeSet
from wire.messages import REPORTS_PER_POST_MAX, Alert, CommandResult, CommandStep, InstrumentReport

QUEUE_REPORTS_MAX: Final = 20_000


class ReportQueue:
    """Unacknowledged reports, and the numbers of the `acknowledged` and `dropped` ones."""

    def __init__(self, reports_max: int = QUEUE_REPORTS_MAX) -> None:
        self.acknowledged = RangeSet()
        self.dropped = RangeSet()
        self._reports_max = reports_max
        self._alerts: deque[InstrumentReport] = deque()
        self._results: deque[InstrumentReport] = deque()
        self._routine: deque[InstrumentReport] = deque()
        self._posting: list[InstrumentReport] = []
        self._one_by_one = False

    def __len__(self) -> int:
        return len(self._posting) + len(self._alerts) + len(self._results) + len(self._routine)

    def put(self, report: InstrumentReport) -> None:
        """Add a report. If the queue is full, drop the oldest routine report that is not being posted."""
        if isinstance(report, Alert):
            self._alerts.append(report)
        elif isinstance(report, (CommandResult, CommandStep)):
            self._results.append(report)
        else:
            self._routine.append(report)
        if self._routine and len(self) > self._reports_max:
            self._drop(self._routine.popleft())

    def post(self) -> list[InstrumentReport]:
        """Return the reports of the next request, alerts first; they change only by `posted` or `refused`."""
        if not self._posting:
            for queue in (self._alerts, self._results, self._routine):
                while queue and len(self._posting) < REPORTS_PER_POST_MAX:
                    self._posting.append(queue.popleft())
        return self._posting[:1] if self._one_by_one else self._posting

    @property
    def is_posting_one(self) -> bool:
        """Whether a single report is being posted, which a refusal then concerns."""
        return len(self._posting) == 1 or self._one_by_one

    def posted(self) -> list[InstrumentReport]:
        """Mark the reports of the last `post` as acknowledged, and return them."""
        done = self.post()
        for report in done:
            self.acknowledged.add(report.number, report.number)
        self._forget(done)
        return done

    def refused(self) -> None:
        """Handle a rejected request: post its reports one by one, and drop the one that is rejected alone."""
        if self.is_posting_one:
            self._drop(self._posting[0])
            self._forget(self._posting[:1])
        else:
            self._one_by_one = True

    def _forget(self, done: list[InstrumentReport]) -> None:
        self._posting = self._posting[len(done) :]
        self._one_by_one = self._one_by_one and bool(self._posting)

    def _drop(self, report: InstrumentReport) -> None:
        self.dropped.add(report.number, report.number)
