"""Writes the older past of a box directly in the form that the data center's archive has, without ingest of batches.

Statuses are written directly to chunks, and reports are evaluated as they are read. The result equals the result of
ingest, evaluation and archive, but without alerts for silence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert

from datacenter.evaluation.alerts import begin, end
from datacenter.evaluation.state import save_state
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.history.changes import mark_changed
from datacenter.history.chunk import encode_chunk
from datacenter.history.statuses import Statuses
from datacenter.store.batches.batch import Received
from datacenter.store.batches.coverage import BOX_STREAM, add_new, encode_ranges
from datacenter.store.batches.rows import RecordRow, make_rows
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import chunks, coverage, evaluated, instruments
from datacenter.triggers.live import LiveEvaluator
from settings.ranges import RangeSet
from sim.fleet.box import RUN
from wire.messages import Gap, ProfileInForce, Record, Status, sequences

_encode: Final = msgspec.msgpack.Encoder().encode
_INSERT: Final = (
    f"INSERT INTO records ({', '.join(RecordRow._fields)}) VALUES ({', '.join('?' * len(RecordRow._fields))})"  # noqa: S608
)
"""The SQL for the driver itself, which takes a third of the time that SQLAlchemy takes."""
_ROWS_PER_INSERT: Final = 5000
"""Once more rows than this are collected, one call inserts them."""


class _InstrumentState:
    """The state of an instrument while its reports are read."""

    def __init__(self, profile: ProfileInForce, triggers: TriggerSet) -> None:
        self.profile = profile
        functions = triggers.functions(profile.model)
        self.evaluator = LiveEvaluator(functions) if functions else None
        self.days: defaultdict[int, list[tuple[int, Status]]] = defaultdict(list)
        self.numbers: list[int] = []
        self.latest: Status | None = None
        self.position = (0, 0, 0, 0)
        """Run, number, time and time of storage of the latest report."""


def write_archived(store: Store, batches: Iterable[Received], triggers: TriggerSet) -> None:
    """Write the batches of one box, in one epoch and the order of their sequences. Raises: StoreError."""
    with store.transaction() as connection:
        _Writer(connection, triggers).write(batches)


class _Writer:
    def __init__(self, connection: Connection, triggers: TriggerSet) -> None:
        self._connection, self._triggers = connection, triggers
        self._instruments: dict[str, _InstrumentState] = {}
        self._rows: list[RecordRow] = []
        self._sequences, self._lost = RangeSet(), RangeSet()

    def write(self, batches: Iterable[Received]) -> None:
        received = None
        for received in batches:
            self._read(received)
        if received is None:
            return
        self._insert()
        box, epoch = received.box, received.batch.epoch
        for serial, instrument in self._instruments.items():
            self._write_instrument(box, serial, instrument)
        lost = encode_ranges(self._lost) if len(self._lost) else None
        own = {"box": box, "stream": BOX_STREAM, "life": epoch}
        self._connection.execute(
            insert(coverage).values(**own, stored=encode_ranges(self._sequences), lost=lost)
        )
        last = {"sequence": self._sequences.last(), "moved_at_ms": received.at_ms}
        self._connection.execute(insert(evaluated).values(box=box, epoch=epoch, **last))

    def _read(self, received: Received) -> None:
        numbers = sequences(received.batch)
        add_new(self._sequences, numbers)
        others: list[tuple[int, Record]] = []
        for sequence, record in zip(numbers, received.batch.records, strict=True):
            body, entry = record.entry.body, record.entry
            if isinstance(body, ProfileInForce):
                self._instruments[body.instrument] = _InstrumentState(body, self._triggers)
            elif isinstance(body, Gap):
                for first, last in body.ranges:
                    self._lost.add(first, last)
            if entry.instrument:
                self._evaluate(received, entry.instrument, entry.run, body)
            if not isinstance(body, Status):
                others.append((sequence, record))
        self._rows += make_rows(received.box, received.batch.epoch, received.at_ms, others)
        if len(self._rows) > _ROWS_PER_INSERT:
            self._insert()

    def _evaluate(self, received: Received, serial: str, run: int, report: Any) -> None:
        instrument = self._instruments[serial]
        instrument.numbers.append(report.number)
        if isinstance(report, Status):
            instrument.latest = report
            instrument.days[report.at_ms // DAY_MS].append((run, report))
        instrument.position = run, report.number, report.at_ms, received.at_ms
        if instrument.evaluator is None:
            return
        instrument.evaluator.start_terms(run, report.number)
        for change in instrument.evaluator.evaluate(report):
            report_key = (received.box, serial, run, report.number)
            if change.is_active:
                begin(self._connection, report_key, change, instrument.evaluator, received.at_ms)
            else:
                end(self._connection, report_key, change, received.at_ms)

    def _insert(self) -> None:
        if self._rows:
            self._connection.exec_driver_sql(_INSERT, [tuple(row) for row in self._rows])
            self._rows = []

    def _write_instrument(self, box: str, serial: str, instrument: _InstrumentState) -> None:
        identity = {"box": box, "instrument": serial}
        self._insert_chunks(identity, instrument)
        mark_changed(self._connection, box, serial, instrument.days)
        stored = RangeSet()
        add_new(stored, instrument.numbers)
        self._connection.execute(
            insert(coverage).values(box=box, stream=serial, life=RUN, stored=encode_ranges(stored))
        )
        latest = instrument.latest
        self._connection.execute(
            insert(instruments).values(
                box=box,
                serial=serial,
                model=instrument.profile.model,
                profile_version=instrument.profile.version,
                state=latest.state if latest else None,
                samples=latest.samples if latest else None,
                readings=_encode(latest.readings) if latest else None,
                evaluation=save_state(instrument.evaluator) if instrument.evaluator else b"",
                **dict(zip(("run", "number", "at_ms", "stored_at_ms"), instrument.position, strict=True)),
            )
        )

    def _insert_chunks(self, identity: dict[str, str], instrument: _InstrumentState) -> None:
        rows: Sequence[dict[str, Any]] = [
            {**identity, "day": day, "statuses": len(of_day), "body": encode_chunk(Statuses.of(of_day))}
            for day, of_day in instrument.days.items()
        ]
        if rows:
            self._connection.execute(insert(chunks), rows)
