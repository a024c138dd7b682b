"""A simulated box with its instruments: the batches that it sends, for its past and for live reports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from datacenter.store.batches.batch import Received
from settings.profile import load_profile
from sim.engine.streams import stream
from sim.fleet.plan import Outage, PlannedBox, PlannedInstrument
from sim.fleet.shared import MovedHistory, shared_history
from sim.units import DAY_NS, HOUR_NS, MILLISECOND_NS
from wire.audit_events import AuditEvent
from wire.messages import RECORDS_PER_BATCH_MAX, Audit, Batch, Entry, Gap, ProfileInForce, Record

TRAVEL_MS: Final = 1500
"""The time from a report to its storage, while the line is up."""
BACKLOG_MS: Final = 2000
"""The time that each batch of a backlog takes."""
RUN: Final = 1
_OFF_FROM_HOUR: Final = 21
_OFF_HOURS: Final = 8


class FleetBox:
    """One box; `start_ms` is the midnight at which its history begins. Raises: ModelError."""

    def __init__(self, plan: PlannedBox, seed: int, start_ms: int) -> None:
        self.plan = plan
        self._start_ms = start_ms
        self._random = stream(seed, f"fleet/{plan.serial}/epoch")
        self._epoch = self._random.randrange(1, 1 << 31)
        self._histories = [
            (
                instrument,
                MovedHistory(
                    shared_history(instrument.model, instrument.template, seed),
                    instrument.moved_days,
                    start_ms,
                ),
            )
            for instrument in plan.instruments
        ]
        self._outages = list(reversed(plan.outages))
        self._waiting: list[tuple[int, Entry]] = []
        self._until_ns = 0
        self._sequence = 0
        self._numbers = {instrument.serial: 0 for instrument in plan.instruments}
        for instrument in plan.instruments:
            profile = ProfileInForce(
                start_ms, instrument.serial, instrument.model, load_profile(instrument.model).version
            )
            self._append(Entry("", 0, profile))
        self._append(Entry("", 0, Audit(start_ms, AuditEvent.STARTED)))

    def until(self, end_ns: int) -> Iterator[Received]:
        """Yield the next batches: those sent until `end_ns` ns after the beginning of the history."""
        while self._outages and self._outages[-1].since_ns < end_ns:
            outage = self._outages[-1]
            if outage.since_ns > self._until_ns:
                self._collect(outage.since_ns)
                yield from self._send(outage.since_ns, TRAVEL_MS)
            if outage.until_ns > end_ns:
                self._collect(end_ns)
                return
            self._collect(outage.until_ns)
            if outage.loses_records:
                self._lose(outage)
            yield from self._send(outage.until_ns, BACKLOG_MS)
            self._outages.pop()
        self._collect(end_ns)
        yield from self._send(end_ns, TRAVEL_MS)

    def _collect(self, end_ns: int) -> None:
        """Collect the reports of the instruments until `end_ns`, in the order of their times."""
        reports = []
        for index, (instrument, history) in enumerate(self._histories):
            for at_ms, report in history.until(end_ns):
                if not _is_off(instrument, at_ms):
                    number = self._numbers[instrument.serial] = self._numbers[instrument.serial] + 1
                    reports.append((at_ms, index, number, report))
        reports.sort(key=lambda entry: entry[:3])
        for at_ms, index, number, report in reports:
            renumbered = msgspec.structs.replace(report, number=number, at_ms=at_ms)
            self._append(Entry(self.plan.instruments[index].serial, RUN, renumbered))
        self._until_ns = max(self._until_ns, end_ns)

    def _append(self, entry: Entry) -> None:
        self._sequence += 1
        self._waiting.append((self._sequence, entry))

    def _lose(self, outage: Outage) -> None:
        """Lose a third of the waiting records, and report the gap."""
        count = len(self._waiting) // 3
        if count < 2:
            return
        first = self._random.randrange(len(self._waiting) - count)
        lost = self._waiting[first : first + count]
        del self._waiting[first : first + count]
        at_ms = self._start_ms + outage.until_ns // MILLISECOND_NS
        self._append(Entry("", 0, Gap(at_ms, "disk-full", count, ((lost[0][0], lost[-1][0]),))))

    def _send(self, end_ns: int, each_ms: int) -> Iterator[Received]:
        """Yield the batches of all waiting records, and clear the queue."""
        at_ms = self._start_ms + end_ns // MILLISECOND_NS
        waiting, self._waiting = self._waiting, []
        for index, first in enumerate(range(0, len(waiting), RECORDS_PER_BATCH_MAX)):
            part = waiting[first : first + RECORDS_PER_BATCH_MAX]
            yield Received(self.plan.serial, _batch(self._epoch, part), at_ms + (index + 1) * each_ms)


def _batch(epoch: int, waiting: list[tuple[int, Entry]]) -> Batch:
    after = previous = waiting[0][0] - 1
    records = []
    for sequence, entry in waiting:
        records.append(Record(sequence - previous, entry))
        previous = sequence
    return Batch(epoch, after, records)


def _is_off(instrument: PlannedInstrument, at_ms: int) -> bool:
    """Return whether an instrument that rests at night is switched off at this time (UTC)."""
    hour_ns = at_ms * MILLISECOND_NS % DAY_NS // HOUR_NS
    return instrument.rests and (hour_ns - _OFF_FROM_HOUR) % 24 < _OFF_HOURS
