"""Evaluates the records of boxes, one box at a time: the state of each instrument, and its alerts.

`advance` evaluates the records that have become complete since the last call, so that it may be called at any time,
by any process, after each batch or from time to time. The position and all effects are one transaction: after a
crash, records are evaluated again with the same result, and none twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import BindParameter, Connection, RowMapping, and_, bindparam, func, select, text

from datacenter.base.snapshot import StoredBases
from datacenter.evaluation.alerts import Begun, Ended, begin, end
from datacenter.evaluation.frontier import EpochArrivals, frontier
from datacenter.evaluation.silence import record_endings
from datacenter.evaluation.silence_state import BoxSilence, load_silence, save_silence
from datacenter.evaluation.state import restored, save_state
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.history.changes import mark_changed
from datacenter.store.batches.coverage import BOX_STREAM, decode_ranges
from datacenter.store.batches.rows import BLOCK_SPAN, stored_records
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import coverage, evaluated, instruments, records
from datacenter.triggers.live import LiveEvaluator
from settings.ranges import RangeSet
from wire.messages import BoxReport, InstrumentReport, ProfileInForce, Status, decode

CLOCK_ERROR_MS_MAX: Final = 86_400_000
"""Maximum time by which a report may be dated after its storage; a later date indicates a wrong clock."""
SEQUENCES_MAX: Final = 8 * BLOCK_SPAN
"""Maximum number of records of an epoch in one transaction, which bounds the memory after an outage."""

_decode_report: Final = msgspec.msgpack.Decoder(InstrumentReport).decode
_decode_own: Final = msgspec.msgpack.Decoder(BoxReport).decode
_NAMES: Final = instruments.c.keys()
_SAVE: Final = text(
    f"INSERT INTO instruments ({', '.join(_NAMES)}) VALUES ({', '.join(f':{name}' for name in _NAMES)})"  # noqa: S608
    f" ON CONFLICT (box, serial) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _NAMES[2:])}"
)
_MOVE: Final = text(
    "INSERT INTO evaluated (box, epoch, sequence, moved_at_ms) VALUES (:box, :epoch, :sequence, :now_ms)"
    " ON CONFLICT (box, epoch) DO UPDATE SET sequence = excluded.sequence, moved_at_ms = excluded.moved_at_ms"
)
_I, _E, _C, _R = instruments.c, evaluated.c, coverage.c, records.c
_BOX: Final[BindParameter[str]] = bindparam("box")
_STORED: Final = select(instruments).where(
    _I.box == _BOX, _I.serial.in_(bindparam("serials", expanding=True))
)
_MOVED: Final = select(_E.epoch, _E.sequence, _E.moved_at_ms).where(_E.box == _BOX)
_COVERED: Final = select(_C.life, _C.stored, _C.lost).where(_C.box == _BOX, _C.stream == BOX_STREAM)
_BEYOND: Final = and_(_R.box == _BOX, _R.epoch == bindparam("epoch"), _R.sequence > bindparam("position"))
_NEWEST: Final = select(func.max(_R.stored_at_ms)).where(_BEYOND)
_PENDING: Final = select(_R.sequence, _R.record_count, _R.body, _R.stored_at_ms, _R.instrument, _R.run).where(
    _BEYOND, _R.sequence <= bindparam("last")
)
"""Built once, because building such statements takes longer than executing them."""


class PendingRecord(NamedTuple):
    """A record that is to be evaluated."""

    sequence: int
    stored_at_ms: int
    instrument: str
    run: int
    body: bytes
    report: InstrumentReport | None
    """The decoded report; None for a record of the box itself."""


@dataclass
class Advance:
    """The result of an evaluation: the number of reports, and the alerts that began and ended."""

    reports: int = 0
    begun: list[Begun] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)


@dataclass
class _Instrument:
    """An instrument's row of the table, and its evaluator."""

    values: dict[str, Any]
    evaluator: LiveEvaluator | None
    latest: Status | None = None
    """The latest status since the row was loaded."""


class Evaluator:
    """Evaluates with one set of triggers. Calls block; several threads or processes may call at the same time."""

    def __init__(self, store: Store, triggers: TriggerSet) -> None:
        self._store, self.triggers = store, triggers

    def boxes(self) -> list[str]:
        """Return the boxes that have records. Raises: StoreError."""
        c = coverage.c
        boxes = select(c.box).where(c.stream == BOX_STREAM).distinct()
        return sorted(box for part in self._store.parts for (box,) in part.read(boxes))

    def advance(self, box: str, now_ms: int) -> Advance:
        """Evaluate the records of one box as far as they are complete. Raises: StoreError."""
        total = Advance()
        part = self._store.of(box)
        while True:
            with part.transaction() as reports, self._store.within(part, reports) as connection:
                if not self._advance(connection, reports, box, now_ms, total):
                    return total

    def _advance(
        self, connection: Connection, reports: Connection, box: str, now_ms: int, total: Advance
    ) -> bool:
        """Evaluate up to SEQUENCES_MAX records of each epoch; return whether there are more.

        `reports` is the connection to the box's reports, which differs from `connection` if they are in a shard.
        """
        _exclude_others(connection, box)
        has_more = False
        silence = load_silence(connection, box) if self.triggers.silences else None
        for epoch, position, complete in _positions(connection, reports, box):
            end_of_step = min(complete, position + SEQUENCES_MAX)
            pending = _pending(reports, box, epoch, position, end_of_step)
            self._evaluate(connection, box, pending, now_ms, total)
            if silence is not None:
                self._update_silence(connection, silence, pending, now_ms, total)
            _move(connection, box, epoch, end_of_step, now_ms)
            if reports is not connection:
                _move(reports, box, epoch, end_of_step, now_ms)
            has_more |= end_of_step < complete
        return has_more

    def _update_silence(
        self,
        connection: Connection,
        silence: BoxSilence,
        pending: list[PendingRecord],
        now_ms: int,
        total: Advance,
    ) -> None:
        """Record the latest report of each instrument, and find silent instruments."""
        if not pending:
            return
        columns = instruments.c
        rows = connection.execute(select(columns.serial, columns.model).where(columns.box == silence.box))
        models = {row.serial: row.model for row in rows}
        silences = {name: self.triggers.silence(model, "instrument") for name, model in models.items()}
        lasts_ms = {name: trigger.lasts_ms if trigger else None for name, trigger in silences.items()}
        for record in pending:
            if record.report is None:
                silence.add_box_record(_decode_own(record.body), record.stored_at_ms)
            else:
                lasts = lasts_ms.get(record.instrument)
                silence.add_report(record.instrument, record.run, record.report, record.stored_at_ms, lasts)
        silence.find_silent(lasts_ms)
        for name, of_instrument in silence.instruments.items():
            of_instrument.model = models.get(name)
        begun, ended = record_endings(connection, self.triggers, silence.box, silence.endings, now_ms)
        total.begun += begun
        total.ended += ended
        silence.endings.clear()
        save_silence(connection, silence)

    def _evaluate(
        self, connection: Connection, box: str, pending: list[PendingRecord], now_ms: int, total: Advance
    ) -> None:
        models = _models(record for record in pending if not record.instrument)
        by_instrument: defaultdict[str, list[PendingRecord]] = defaultdict(list)
        for record in pending:
            if record.instrument:
                by_instrument[record.instrument].append(record)
        loaded_instruments = self._load(connection, box, sorted({*by_instrument, *models}), models)
        for serial, instrument in loaded_instruments.items():
            ended_days = set()
            for record, report in _in_order(by_instrument[serial]):
                if instrument.values["at_ms"] // DAY_MS != report.at_ms // DAY_MS:
                    ended_days.add(instrument.values["at_ms"] // DAY_MS)
                self._apply(connection, box, instrument, record, report, now_ms, total)
            mark_changed(connection, box, serial, ended_days - {0})
        if loaded_instruments:
            connection.execute(_SAVE, [_values(instrument) for instrument in loaded_instruments.values()])

    def _load(
        self, connection: Connection, box: str, serials: list[str], models: dict[str, ProfileInForce]
    ) -> dict[str, _Instrument]:
        """Return the state of instruments, in the order of `serials`, with the profiles that they follow now."""
        rows = connection.execute(_STORED, {"box": box, "serials": serials}).mappings() if serials else ()
        stored = {row["serial"]: row for row in rows}
        bases: dict[str, StoredBases] = {}
        loaded = {}
        for serial in serials:
            row, model = stored.get(serial), models.get(serial)
            loaded[serial] = self._restored(connection, box, serial, row, model, bases)
        return loaded

    def _restored(
        self,
        connection: Connection,
        box: str,
        serial: str,
        row: RowMapping | None,
        model: ProfileInForce | None,
        bases: dict[str, StoredBases],
    ) -> _Instrument:
        unknown = dict.fromkeys(("model", "profile_version", "port", "state", "samples", "readings"))
        never = {"run": 0, "number": 0, "at_ms": 0, "stored_at_ms": 0, "evaluation": b""}
        values: dict[str, Any] = (
            dict(row) if row is not None else {"box": box, "serial": serial, **unknown, **never}
        )
        if model is not None:
            values |= {"model": model.model, "profile_version": model.version}
            values["port"] = model.port or values["port"]
        evaluator = None
        if (functions := self.triggers.functions(values["model"])) is not None:
            saved = bytes(values["evaluation"])
            base = bases.setdefault(values["model"], StoredBases(connection, values["model"]))
            evaluator = restored(functions, saved, base) if saved else LiveEvaluator(functions, base)
        return _Instrument(values, evaluator)

    def _apply(
        self,
        connection: Connection,
        box: str,
        instrument: _Instrument,
        record: PendingRecord,
        report: InstrumentReport,
        now_ms: int,
        total: Advance,
    ) -> None:
        total.reports += 1
        values = instrument.values
        values |= {
            "run": record.run,
            "number": report.number,
            "at_ms": report.at_ms,
            "stored_at_ms": record.stored_at_ms,
        }
        if isinstance(report, Status):
            instrument.latest = report
        if instrument.evaluator is None:
            return
        instrument.evaluator.start_terms(record.run, report.number)
        for transition in instrument.evaluator.evaluate(report, record.stored_at_ms + CLOCK_ERROR_MS_MAX):
            key = (box, values["serial"], record.run, report.number)
            if transition.is_active:
                total.begun.append(begin(connection, key, transition, instrument.evaluator, now_ms))
            else:
                total.ended += end(connection, key, transition, now_ms)


def _exclude_others(connection: Connection, box: str) -> None:
    """Exclude other evaluations of this box; on PostgreSQL, transactions that store its batches do not wait."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:box, 1))"), {"box": box})
    else:
        connection.execute(text("UPDATE boxes SET site = site WHERE serial = :box"), {"box": box})


def _positions(connection: Connection, reports: Connection, box: str) -> list[tuple[int, int, int]]:
    """Return the epochs that have complete records: epoch, last evaluated number, last complete number."""
    moved = {
        epoch: (sequence, moved_at_ms)
        for epoch, sequence, moved_at_ms in connection.execute(_MOVED, {"box": box})
    }
    epochs = []
    for epoch, stored, lost in reports.execute(_COVERED, {"box": box}).all():
        ranges = decode_ranges(stored)
        position, moved_at_ms = moved.get(epoch, (0, None))
        if position >= ranges.last():
            continue
        arrivals = EpochArrivals(ranges, decode_ranges(lost) if lost else RangeSet(), newest_at_ms=0)
        if (complete := frontier(arrivals, position, moved_at_ms)) <= position:
            beyond = {"box": box, "epoch": epoch, "position": position}
            arrivals = replace(arrivals, newest_at_ms=reports.scalar(_NEWEST, beyond) or 0)
            complete = frontier(arrivals, position, moved_at_ms)
        if complete > position:
            epochs.append((epoch, position, complete))
        elif moved_at_ms is None:
            _move(connection, box, epoch, 0, arrivals.newest_at_ms)
    return epochs


def _pending(
    connection: Connection, box: str, epoch: int, position: int, end_of_step: int
) -> list[PendingRecord]:
    """Return the records with sequences after `position` and up to `end_of_step`, in their order."""
    sought = {"box": box, "epoch": epoch, "position": position, "last": end_of_step + BLOCK_SPAN}
    rows = connection.execute(_PENDING, sought)
    pending = [
        PendingRecord(
            stored.sequence,
            row.stored_at_ms,
            row.instrument,
            row.run,
            stored.body,
            _decode_report(stored.body) if row.instrument else None,
        )
        for row in rows
        for stored in stored_records(row.sequence, row.record_count, row.body)
        if position < stored.sequence <= end_of_step
    ]
    return sorted(pending, key=lambda record: record.sequence)


def _move(connection: Connection, box: str, epoch: int, sequence: int, now_ms: int) -> None:
    values = {"box": box, "epoch": epoch, "sequence": sequence, "now_ms": now_ms}
    connection.execute(_MOVE, values)


def _models(pending: Iterable[PendingRecord]) -> dict[str, ProfileInForce]:
    """Return by instrument the latest profile that these records of the box itself put in force."""
    profiles = {}
    for record in pending:
        if record.body[1:9] == b"\xa7profile":
            profile = decode(ProfileInForce, record.body)
            profiles[profile.instrument] = profile
    return profiles


def _in_order(pending: list[PendingRecord]) -> list[tuple[PendingRecord, InstrumentReport]]:
    """Return an instrument's records with their reports, in the order of (run, number)."""
    pairs = [(record, record.report) for record in pending if record.report is not None]
    return sorted(pairs, key=lambda pair: (pair[0].run, pair[1].number))


def _values(instrument: _Instrument) -> dict[str, Any]:
    """Return the row of an instrument after its reports."""
    values = instrument.values
    if (latest := instrument.latest) is not None:
        readings = msgspec.msgpack.encode(latest.readings)
        values |= {"state": latest.state, "samples": latest.samples, "readings": readings}
    if instrument.evaluator is not None:
        values["evaluation"] = save_state(instrument.evaluator)
    return values
