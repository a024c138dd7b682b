"""Stores the audit records of boxes, and verifies the hash chain of each box as records arrive.

A chain covers one epoch of a box's spool. Its head is the last record up to which the chain is verified. Records may
not arrive in the order in which they were made, because a box uses two connections; records after a gap wait. After
HOLE_MS the gap counts as a problem, and the head moves past it.

A box that lost its position in a log sends lines again, as new records. They are stored, because they belong to the
chain, and marked as repeated. Such a line is detected by its file, its position and its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol

from wire.messages import (
    Audit,
    Batch,
    CommandResult,
    Entry,
    LogLine,
    ProfileInForce,
    UpdateStep,
    decode,
    encode,
    sequences,
)

HOLE_MS: Final = 3_600_000
"""Time for which records after a gap wait for the missing ones."""
START: Final = bytes(32)
LINE_BYTES: Final = 16
_CHECKED_AT_ONCE: Final = 2_000


class AuditRecord(NamedTuple):
    """A row of `box_audit`, in the order of its columns."""

    box: str
    epoch: int
    number: int
    hash: bytes
    sequence: int
    at_ms: int
    stored_at_ms: int
    kind: str
    text: str
    """The searched text: the event with port and value, or the line of a log."""
    line: bytes | None
    """Identifies a line of a log by its file, its position and its content."""
    is_repeated: int
    entry: bytes


class ChainRow(NamedTuple):
    """A row of `box_chains`, in the order of its columns."""

    box: str
    epoch: int
    number: int
    """The number of the head."""
    hash: bytes
    last: int
    """The highest number that has arrived."""
    waiting_since_ms: int | None
    """The time since which records have been waiting after a gap."""


class Database(Protocol):
    """Executes statements with the driver's cursor; parameters are marked with `?`."""

    def select(self, cursor: Any, statement: str, values: Sequence[Any]) -> list[Any]:
        """Return the rows of a query."""
        ...

    def change(self, cursor: Any, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute a statement for each row of values."""
        ...


_CHAIN: Final = f"SELECT {', '.join(ChainRow._fields)} FROM box_chains WHERE box = ? AND epoch = ?"  # noqa: S608
_REMOVED: Final = "SELECT removed FROM box_chains WHERE box = ? AND epoch = ?"
_PUT_CHAIN: Final = (
    f"INSERT INTO box_chains ({', '.join(ChainRow._fields)}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608
    " ON CONFLICT (box, epoch) DO UPDATE SET number = excluded.number, hash = excluded.hash, last = excluded.last,"
    " waiting_since_ms = excluded.waiting_since_ms"
)
_INSERT: Final = (
    f"INSERT INTO box_audit ({', '.join(AuditRecord._fields)})"  # noqa: S608
    f" VALUES ({', '.join('?' * len(AuditRecord._fields))}) ON CONFLICT DO NOTHING"
)
_PROBLEM: Final = (
    "INSERT INTO box_audit_problems (box, epoch, number, problem, at_ms) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
_OTHERS: Final = "SELECT hash FROM box_audit WHERE box = ? AND epoch = ? AND number = ? AND hash <> ?"
_AFTER: Final = (
    "SELECT number, hash, entry FROM box_audit WHERE box = ? AND epoch = ? AND number > ?"
    " ORDER BY number LIMIT ?"
)
_LINE: Final = "SELECT 1 FROM box_audit WHERE box = ? AND line = ? AND NOT (epoch = ? AND number = ?)"


def store_audit(database: Database, cursor: Any, box: str, batch: Batch, now_ms: int) -> None:
    """Store and verify the linked entries of a batch, including entries that are already stored.

    Raises: errors of the driver.
    """
    linked = [(seq, record.entry) for seq, record in zip(sequences(batch), batch.records, strict=True)]
    linked = [(seq, entry) for seq, entry in linked if entry.link is not None]
    if not linked:
        return
    chain = _chain(database, cursor, box, batch.epoch)
    rows = [make_record(box, batch.epoch, seq, now_ms, entry) for seq, entry in linked]
    if any(
        row.number <= chain.number for row in rows
    ):  # repeated records; retention may have removed some of them
        [(removed,)] = database.select(cursor, _REMOVED, (box, batch.epoch))
        rows = [row for row in rows if row.number > removed]
    problems = list(_replaced(database, cursor, [row for row in rows if row.number <= chain.last]))
    database.change(cursor, _INSERT, list(_marked(database, cursor, rows)))
    chain = chain._replace(last=max([chain.last, *(row.number for row in rows)]))
    chain, more = _advance(database, cursor, chain, now_ms)
    database.change(cursor, _PUT_CHAIN, [chain])
    if problem_rows := problems + more:
        database.change(
            cursor, _PROBLEM, [(box, batch.epoch, number, text, now_ms) for number, text in problem_rows]
        )


def make_record(box: str, epoch: int, sequence: int, now_ms: int, entry: Entry) -> AuditRecord:
    """Return the row of a linked entry."""
    body, encoded = entry.body, encode(entry)
    assert entry.link is not None
    line = None
    if isinstance(body, LogLine):
        line = sha256(body.file + body.offset.to_bytes(8) + body.content).digest()[:LINE_BYTES]
    return AuditRecord(
        box,
        epoch,
        entry.link.number,
        sha256(encoded).digest(),
        sequence,
        body.at_ms,
        now_ms,
        str(body.__struct_config__.tag),
        text_of(entry),
        line,
        0,
        encoded,
    )


def text_of(entry: Entry) -> str:
    """Return an entry as a line of text, without characters that a database or a terminal would interpret."""
    body = entry.body
    match body:
        case LogLine():
            text = body.content.decode(errors="replace").removesuffix("\n")
        case Audit():
            text = " ".join([body.event, *[f"port={body.port}"] * bool(body.port), f"value={body.value}"])
        case ProfileInForce():
            text = f"profile instrument={body.instrument} model={body.model} version={body.version}"
        case UpdateStep():
            text = f"update order={body.order} release={body.release} step={body.step} reason={body.reason}"
        case CommandResult():
            text = f"result command={body.command} outcome={body.outcome}"
        case _:
            text = str(body.__struct_config__.tag)
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _chain(database: Database, cursor: Any, box: str, epoch: int) -> ChainRow:
    for row in database.select(cursor, _CHAIN, (box, epoch)):
        chain = ChainRow(*row)
        return chain._replace(hash=bytes(chain.hash))
    return ChainRow(box, epoch, 0, START, 0, None)


def _replaced(database: Database, cursor: Any, rows: Sequence[AuditRecord]) -> Iterator[tuple[int, str]]:
    """Yield the problems of records whose number is stored with different content."""
    for row in rows:
        if database.select(cursor, _OTHERS, (row.box, row.epoch, row.number, row.hash)):
            yield row.number, f"the box sent record {row.number} a second time, with different content"


def _marked(database: Database, cursor: Any, rows: Sequence[AuditRecord]) -> Iterator[AuditRecord]:
    """Yield the records; those of lines that are already stored are marked as repeated."""
    known: dict[bytes, int] = {}
    for row in rows:
        if row.line is None:
            yield row
            continue
        is_known = known.setdefault(row.line, row.number) != row.number
        stored = is_known or database.select(cursor, _LINE, (row.box, row.line, row.epoch, row.number))
        yield row._replace(is_repeated=1) if stored else row


def _advance(
    database: Database, cursor: Any, chain: ChainRow, now_ms: int
) -> tuple[ChainRow, list[tuple[int, str]]]:
    """Move the head over the stored records that follow it."""
    problems: list[tuple[int, str]] = []
    since = chain.waiting_since_ms
    is_late = since is not None and now_ms - since >= HOLE_MS
    while chain.number < chain.last:
        values = (chain.box, chain.epoch, chain.number, _CHECKED_AT_ONCE)
        for number, digest, encoded in database.select(cursor, _AFTER, values):
            if number == chain.number:
                continue  # two records with one number; reported when the second arrived
            if number > chain.number + 1:
                if not is_late:
                    return chain._replace(waiting_since_ms=now_ms if since is None else since), problems
                problems.append((chain.number + 1, f"records {chain.number + 1} to {number - 1} are missing"))
            elif previous_of(bytes(encoded)) != chain.hash and chain.number:
                problems.append((number, f"record {number} does not follow record {number - 1}"))
            chain = chain._replace(number=number, hash=bytes(digest))
    return chain._replace(waiting_since_ms=None), problems


def previous_of(encoded: bytes) -> bytes:
    """Return the hash of the previous record, from an encoded linked entry."""
    link = decode(Entry, encoded).link
    assert link is not None
    return link.previous
