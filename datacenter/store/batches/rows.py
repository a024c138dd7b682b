"""Rows of the table `records`: a row is a record, or a *block* of statuses of one instrument.

Nine of ten reports are statuses. The statuses of an instrument in a batch become one row: writing and reading it
costs as much as for a single report. Every other record has its own row, because records are searched by kind.

The body of a row with `record_count` 1 is the record's body in MessagePack. The body of a block is a MessagePack
array of the sequence numbers of the statuses, and of their bodies. The columns of a block's row have the sequence and
the number of its last status, and the earliest and the latest time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias, get_args

import msgspec

from wire.messages import BoxReport, InstrumentReport, LogLine, Record, Status

Body: TypeAlias = InstrumentReport | BoxReport
STATUS: Final = "status"
BLOCK_SPAN: Final = 1024
"""A block does not cross a multiple of this in its sequence numbers, so that a search for one number is bounded."""
_KINDS: Final[dict[type, str]] = {
    kind: str(kind.__struct_config__.tag) for kind in (*get_args(InstrumentReport), *get_args(BoxReport))
}
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_block: Final = msgspec.msgpack.Decoder(tuple[list[int], list[msgspec.Raw]]).decode
_decode_statuses: Final = msgspec.msgpack.Decoder(tuple[list[int], list[Status]]).decode
_decode_status: Final = msgspec.msgpack.Decoder(Status).decode


class RecordRow(NamedTuple):
    """A row of the table, in the order of its columns."""

    box: str
    epoch: int
    sequence: int
    stored_at_ms: int
    instrument: str
    run: int
    number: int | None
    kind: str
    since_ms: int
    at_ms: int
    record_count: int
    body: bytes


class Stored(NamedTuple):
    """A record of a row: its sequence, and its body in MessagePack."""

    sequence: int
    body: bytes


def kind_of(body: Body) -> str:
    """Return the name of a record's kind."""
    return _KINDS[type(body)]


def number_of(record: Record) -> int | None:
    """Return the number that an instrument gave its report, None for a record of the box itself."""
    return getattr(record.entry.body, "number", None) if record.entry.instrument else None


def make_rows(
    box: str, epoch: int, stored_at_ms: int, records: Iterable[tuple[int, Record]]
) -> list[RecordRow]:
    """Return rows for records, given in ascending order of their sequence numbers; log lines get no row."""
    rows: list[RecordRow] = []
    statuses: dict[tuple[str, int, int], tuple[list[int], list[Status]]] = {}
    for sequence, record in records:
        entry = record.entry
        body = entry.body
        if isinstance(body, LogLine):
            continue  # only in `box_audit`
        if isinstance(body, Status):
            block = entry.instrument, entry.run, sequence // BLOCK_SPAN
            sequences, bodies = statuses.get(block) or statuses.setdefault(block, ([], []))
            sequences.append(sequence)
            bodies.append(body)
            continue
        identity = box, epoch, sequence, stored_at_ms, entry.instrument, entry.run, number_of(record)
        rows.append(RecordRow(*identity, kind_of(body), body.at_ms, body.at_ms, 1, _encode(body)))
    for (instrument, run, _), (sequences, bodies) in statuses.items():
        rows.append(_status_row(box, epoch, stored_at_ms, instrument, run, sequences, bodies))
    return rows


def _status_row(
    box: str,
    epoch: int,
    stored_at_ms: int,
    instrument: str,
    run: int,
    sequences: list[int],
    bodies: list[Status],
) -> RecordRow:
    times = [body.at_ms for body in bodies]
    data = _encode(bodies[0]) if len(bodies) == 1 else _encode((sequences, bodies))
    number = bodies[-1].number if instrument else None
    identity = box, epoch, sequences[-1], stored_at_ms, instrument, run, number
    return RecordRow(*identity, STATUS, min(times), max(times), len(bodies), data)


def stored_records(sequence: int, record_count: int, body: bytes) -> list[Stored]:
    """Return the records of a row from its columns `sequence`, `record_count` and `body`, in ascending sequence."""
    if record_count == 1:
        return [Stored(sequence, bytes(body))]
    sequences, bodies = _decode_block(body)
    return [Stored(*pair) for pair in zip(sequences, map(bytes, bodies), strict=True)]


def stored_statuses(record_count: int, body: bytes) -> list[Status]:
    """Return the statuses of a row of the kind STATUS from its columns `record_count` and `body`."""
    return [_decode_status(body)] if record_count == 1 else _decode_statuses(body)[1]
