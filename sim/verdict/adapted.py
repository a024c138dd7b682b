"""Reports of adapted instruments: the box assigns their numbers, so the ledger finds them by content and time.

If the box replaces the time of a report with its own, the report is found by its content alone; of several reports
with equal content, the earliest is taken first. A further record with the content of a report that was already found
is a duplicate.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Protocol, TypeAlias

from wire.messages import CommandResult, InstrumentReport
from wire.standards.extract import Finding

_Content: TypeAlias = tuple[str, str, int | None]


class NumberedReports(Protocol):
    """The reports of one run by number (`sim.verdict.ledger.Run`)."""

    copies: int

    def __len__(self) -> int: ...

    def made(self, kind: str, now_ns: int) -> None:
        """Add the next report, which was made now."""
        ...

    def acknowledged(self, number: int, now_ns: int) -> None:
        """Record that the box has acknowledged a report."""
        ...

    def found(self, number: int, sequence: int, stored_ns: int) -> bool:
        """Record that a report was found."""
        ...


class AdaptedReports:
    """The reports of one instrument. `run` holds their times, `refusals` the valid messages that the box refused."""

    def __init__(self, run: NumberedReports) -> None:
        self.run = run
        self.refusals: list[tuple[int, str]] = []
        """The time in nanoseconds of lab time, and a description."""
        self._open: defaultdict[_Content, deque[int]] = defaultdict(deque)
        """The numbers of the reports not found yet."""
        self._closed: dict[_Content, int] = {}
        self._by_box: dict[tuple[int, int], int] = {}
        """The report's number in `run`, by the run and the number that the box assigned to it."""

    def made(self, finding: Finding, now_ns: int) -> int:
        """Add a report that was made now; returns its number."""
        content = _content(finding.kind(1, 0, *finding.fields), finding.at_ms)
        self.run.made(content[0], now_ns)
        self._open[content].append(len(self.run))
        return len(self.run)

    def found(self, run: int, body: InstrumentReport, sequence: int, stored_ns: int) -> bool:
        """Record that a report was found under the box's run number `run`; returns False if no such report was made.

        The results of commands are created by the box and are not checked.
        """
        if isinstance(body, CommandResult):
            return True
        number = self._by_box.get((run, body.number))
        if number is not None:
            return self.run.found(number, sequence, stored_ns)
        contents = [_content(body, at_ms) for at_ms in (body.at_ms, None)]
        for content in contents:
            if numbers := self._open.get(content):
                number = self._by_box[run, body.number] = self._closed[content] = numbers.popleft()
                return self.run.found(number, sequence, stored_ns)
        if any(content in self._closed for content in contents):
            self.run.copies += 1
            return True
        return False


def _content(body: InstrumentReport, at_ms: int | None) -> _Content:
    fields = tuple(getattr(body, name) for name in body.__struct_fields__[2:])
    return str(type(body).__struct_config__.tag), repr(fields), at_ms
