"""The latest report of each instrument, and whether it is silent, from the records of its box in their order.

The time of a record is the time of its reporter's clock if this time is plausible: not before earlier records of the
box, and not after the record was stored. Otherwise, it is the time of storage, the latest possible one. An instrument
is silent for as long as its box has recorded something else since its last report. Therefore a silence follows only
from records, however late they arrive, and the silence of a box does not count as a silence of its instruments. Time
before a restart of the box program, a change of its clock or a loss of records does not count, because reports may be
missing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, and_, insert, select, update

from datacenter.store.tables.schema import silence_state
from wire.audit_events import AuditEvent
from wire.messages import Audit, BoxReport, Gap, InstrumentReport

RESTARTS: Final = frozenset(
    {
        AuditEvent.STARTED,
        AuditEvent.STARTED_AFTER_CRASH,
        AuditEvent.CLOCK_SET,
        AuditEvent.SPOOL_WRITABLE,
    }
)
"""Events before which reports of instruments may be missing, or times have another meaning."""
_S: Final = silence_state.c


@dataclass
class InstrumentSilence:
    """The latest report of one instrument, and since when the instrument is silent (None if it is not)."""

    last_seen_ms: int
    run: int = 0
    number: int = 0
    silent_ms: int | None = None
    alert: str | None = None
    model: str | None = None


@dataclass
class Ending:
    """A silence that ended with a report: the state before it, and the time, run and number of the report."""

    instrument: str
    was: InstrumentSilence
    at_ms: int
    run: int
    number: int


@dataclass
class BoxSilence:
    """A box and its instruments. `box_ms` is the time of the latest record, `contact_ms` that of its storage."""

    box: str
    box_ms: int = 0
    contact_ms: int = 0
    counts_from_ms: int = 0
    instruments: dict[str, InstrumentSilence] = field(default_factory=dict)
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The values in the database, by instrument."""
    endings: list[Ending] = field(default_factory=list)

    def add_box_record(self, body: BoxReport, stored_ms: int) -> None:
        """Apply a record of the box itself."""
        self._advance(body.at_ms, stored_ms)
        if isinstance(body, Gap) or (isinstance(body, Audit) and body.event in RESTARTS):
            self.counts_from_ms = self.box_ms

    def add_report(
        self, instrument: str, run: int, report: InstrumentReport, stored_ms: int, lasts_ms: int | None
    ) -> None:
        """Apply a report of an instrument, which is silent after `lasts_ms` without reports; None: never silent."""
        self._find(instrument, lasts_ms)
        at_ms = self._advance(report.at_ms, stored_ms)
        was = self.instruments.get(instrument)
        if was is not None and was.silent_ms is not None:
            self.endings.append(Ending(instrument, was, at_ms, run, report.number))
        model = was.model if was else None
        self.instruments[instrument] = InstrumentSilence(at_ms, run, report.number, model=model)

    def find_silent(self, lasts_ms: dict[str, int | None]) -> None:
        """Mark the instruments that are silent now; `lasts_ms` has, by instrument, the time without reports."""
        for instrument in self.instruments:
            self._find(instrument, lasts_ms.get(instrument))

    def _find(self, instrument: str, lasts_ms: int | None) -> None:
        state = self.instruments.get(instrument)
        if state is None or lasts_ms is None or state.silent_ms is not None:
            return
        silent_ms = max(state.last_seen_ms, self.counts_from_ms) + lasts_ms
        if self.box_ms >= silent_ms:
            state.silent_ms = silent_ms

    def _advance(self, at_ms: int, stored_ms: int) -> int:
        """Return the time of a record; the time of the box advances to the reporter's time if that is plausible."""
        self.contact_ms = max(self.contact_ms, stored_ms)
        if not self.box_ms <= at_ms <= stored_ms:
            return max(self.box_ms, stored_ms)
        self.box_ms = at_ms
        return at_ms


def load_silence(connection: Connection, box: str) -> BoxSilence:
    """Load the state of a box and its instruments, and lock its rows until the end of the transaction."""
    state = BoxSilence(box)
    for row in connection.execute(select(silence_state).where(_S.box == box).with_for_update()):
        if row.instrument:
            state.instruments[row.instrument] = InstrumentSilence(
                row.last_seen_ms, row.run, row.number, row.silent_ms, row.alert, row.model
            )
        else:
            state.contact_ms, state.box_ms, state.counts_from_ms = (
                row.last_seen_ms,
                row.box_ms,
                row.counts_from_ms,
            )
        state.stored[row.instrument] = _values(state, row.instrument)
    return state


def save_silence(connection: Connection, state: BoxSilence) -> None:
    """Save the changed values of a box and its instruments."""
    for instrument in ("", *state.instruments):
        values, stored = _values(state, instrument), state.stored.get(instrument)
        if values == stored:
            continue
        if stored is not None:
            this = and_(_S.box == state.box, _S.instrument == instrument)
            connection.execute(update(silence_state).where(this).values(values))
        else:
            key = {"box": state.box, "instrument": instrument}
            connection.execute(insert(silence_state).values(key | values))
        state.stored[instrument] = values


def _values(state: BoxSilence, instrument: str) -> dict[str, Any]:
    """Return the values of the row of an instrument; of the box itself if `instrument` is empty."""
    if instrument:
        return asdict(state.instruments[instrument])
    return {
        "last_seen_ms": state.contact_ms,
        "box_ms": state.box_ms,
        "counts_from_ms": state.counts_from_ms,
    }
