"""The latest report of each instrument, and whether it is silent, from the records of its box in their order.

The time of a record is that of its reporter's clock if it is possible: not before earlier records of the box, and not
after it was stored; otherwise it is when it was stored, the latest possible time. An instrument is silent for as long
as its box has recorded something else since its last report. Therefore a silence follows from records alone, however
late they arrive, and the silence of a box is no silence of its instruments. Time before a restart of the box program,
a change of its clock or a loss of records does not count, because reports may be missing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, and_, insert, select, update

from datacenter.store.schema import hearing
from wire.audit_events import AuditEvent
from wire.messages import Audit, Gap, InstrumentReport, ProfileInForce

RESTARTS: Final = frozenset(
    {
        AuditEvent.STARTED,
        AuditEvent.STARTED_AFTER_CRASH,
        AuditEvent.CLOCK_SET,
        AuditEvent.SPOOL_WRITABLE,
    }
)
"""Events before which reports of instruments may be missing, or times have another meaning."""
_H: Final = hearing.c


@dataclass
class Heard:
    """What is known about one instrument: its latest report, and since when it is silent (None if it is not)."""

    heard_ms: int
    run: int = 0
    number: int = 0
    silent_ms: int | None = None
    alert: str | None = None
    model: str | None = None


@dataclass
class Ending:
    """A silence that ended with a report: how it was, and the time and place of the report."""

    instrument: str
    was: Heard
    at_ms: int
    run: int
    number: int


@dataclass
class Hearing:
    """A box and its instruments. `box_ms` is the time of the latest record, `contact_ms` when one was stored."""

    box: str
    box_ms: int = 0
    contact_ms: int = 0
    counts_from_ms: int = 0
    instruments: dict[str, Heard] = field(default_factory=dict)
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The values in the database, by instrument."""
    endings: list[Ending] = field(default_factory=list)

    def own(self, body: Audit | Gap | ProfileInForce, stored_ms: int) -> None:
        """Take a record of the box itself."""
        self._advance(body.at_ms, stored_ms)
        if isinstance(body, Gap) or (isinstance(body, Audit) and body.event in RESTARTS):
            self.counts_from_ms = self.box_ms

    def report(
        self, instrument: str, run: int, report: InstrumentReport, stored_ms: int, lasts_ms: int | None
    ) -> None:
        """Take a report of an instrument, which is silent after `lasts_ms` if this is not None."""
        self._find(instrument, lasts_ms)
        at_ms = self._advance(report.at_ms, stored_ms)
        was = self.instruments.get(instrument)
        if was is not None and was.silent_ms is not None:
            self.endings.append(Ending(instrument, was, at_ms, run, report.number))
        model = was.model if was else None
        self.instruments[instrument] = Heard(at_ms, run, report.number, model=model)

    def find_silent(self, lasts_ms: dict[str, int | None]) -> None:
        """Find the instruments that are silent now; `lasts_ms` is the time of each."""
        for instrument in self.instruments:
            self._find(instrument, lasts_ms.get(instrument))

    def _find(self, instrument: str, lasts_ms: int | None) -> None:
        heard = self.instruments.get(instrument)
        if heard is None or lasts_ms is None or heard.silent_ms is not None:
            return
        silent_ms = max(heard.heard_ms, self.counts_from_ms) + lasts_ms
        if self.box_ms >= silent_ms:
            heard.silent_ms = silent_ms

    def _advance(self, at_ms: int, stored_ms: int) -> int:
        """Return the time of a record, and move the time of the box up to it."""
        self.contact_ms = max(self.contact_ms, stored_ms)
        if not self.box_ms <= at_ms <= stored_ms:
            return max(self.box_ms, stored_ms)
        self.box_ms = at_ms
        return at_ms


def load_hearing(connection: Connection, box: str) -> Hearing:
    """Load what is known about a box."""
    found = Hearing(box)
    for row in connection.execute(select(hearing).where(_H.box == box).with_for_update()):
        if row.instrument:
            found.instruments[row.instrument] = Heard(
                row.heard_ms, row.run, row.number, row.silent_ms, row.alert, row.model
            )
        else:
            found.contact_ms, found.box_ms, found.counts_from_ms = (
                row.heard_ms,
                row.box_ms,
                row.counts_from_ms,
            )
        found.stored[row.instrument] = _values(found, row.instrument)
    return found


def save_hearing(connection: Connection, found: Hearing) -> None:
    """Save what has changed of a box and its instruments."""
    for instrument in ("", *found.instruments):
        values, stored = _values(found, instrument), found.stored.get(instrument)
        if values == stored:
            continue
        if stored is not None:
            this = and_(_H.box == found.box, _H.instrument == instrument)
            connection.execute(update(hearing).where(this).values(values))
        else:
            key = {"box": found.box, "instrument": instrument}
            connection.execute(insert(hearing).values(key | values))
        found.stored[instrument] = values


def _values(found: Hearing, instrument: str) -> dict[str, Any]:
    """Return the values of the row of an instrument; of the box itself if `instrument` is empty."""
    if instrument:
        return asdict(found.instruments[instrument])
    return {
        "heard_ms": found.contact_ms,
        "box_ms": found.box_ms,
        "counts_from_ms": found.counts_from_ms,
    }
