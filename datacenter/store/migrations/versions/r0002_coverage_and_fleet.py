"""Coverage instead of unique keys, blocks of statuses, partitions; sites, instruments, alerts and chunks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

from datacenter.store.batches.coverage import BOX_STREAM, encode_ranges
from datacenter.store.tables.partitions import DAY_MS, create_partition
from settings.ranges import RangeSet
from wire.messages import Gap, decode

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `coverage`, and rebuild `records` with the rows it has."""
    connection = op.get_bind()
    op.create_table(
        "coverage",
        sa.Column("box", sa.Text, primary_key=True),
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("life", sa.BigInteger, primary_key=True),
        sa.Column("stored", sa.LargeBinary, nullable=False),
        sa.Column("lost", sa.LargeBinary),
        sqlite_with_rowid=False,
    )
    _create_tables_of_the_fleet()
    op.rename_table("records", "records_0001")
    op.create_table(
        "records",
        sa.Column("box", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("stored_at_ms", sa.BigInteger, primary_key=True),
        sa.Column("instrument", sa.Text, nullable=False),
        sa.Column("run", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("record_count", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (stored_at_ms)",
    )
    op.create_index("records_of_instrument", "records", ["box", "instrument", "at_ms"])
    op.create_index("records_of_kind", "records", ["kind", "at_ms"])
    if connection.dialect.name == "postgresql":
        days = sa.text("SELECT DISTINCT stored_at_ms / :day FROM records_0001")
        for (day,) in connection.execute(days, {"day": DAY_MS}).all():
            create_partition(connection, day)
    connection.execute(
        sa.text(
            "INSERT INTO records SELECT box, epoch, sequence, stored_at_ms, instrument, run, number, kind,"
            " at_ms, at_ms, 1, body FROM records_0001"
        )
    )
    cover = sa.text("INSERT INTO coverage VALUES (:box, :stream, :life, :stored, :lost)")
    for row in _coverage(connection):
        connection.execute(cover, row)
    op.drop_table("records_0001")


def _create_tables_of_the_fleet() -> None:
    """Create the tables of sites, instruments, alerts and history, all empty."""
    op.add_column("boxes", sa.Column("site", sa.Text))
    op.create_table(
        "sites",
        sa.Column("site", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("name", "country", "region", "zone")),
        sa.Column("latitude", sa.Float),
        sa.Column("longitude", sa.Float),
    )
    op.create_table(
        "instruments",
        sa.Column("box", sa.Text, primary_key=True),
        sa.Column("serial", sa.Text, primary_key=True),
        sa.Column("model", sa.Text),
        sa.Column("profile_version", sa.BigInteger),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("run", "number", "at_ms", "stored_at_ms")
        ),
        sa.Column("state", sa.Text),
        sa.Column("samples", sa.BigInteger),
        sa.Column("readings", sa.LargeBinary),
        sa.Column("evaluation", sa.LargeBinary, nullable=False),
    )
    op.create_index("instruments_of_model", "instruments", ["model"])
    op.create_table(
        "evaluated",
        sa.Column("box", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("sequence", "moved_at_ms")),
    )
    texts = ("box", "instrument", "model", "trigger", "trigger_hash", "severity", "component")
    op.create_table(
        "alerts",
        sa.Column("id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in texts),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("run", "number", "began_at_ms", "raised_at_ms")
        ),
        *(
            sa.Column(name, sa.BigInteger)
            for name in ("ended_at_ms", "end_run", "end_number", "acknowledged_at_ms")
        ),
        sa.Column("acknowledged_by", sa.Text),
        sa.Column("evidence", sa.LargeBinary, nullable=False),
    )
    op.create_index("alerts_of_instrument", "alerts", ["box", "instrument", "began_at_ms"])
    op.create_index("alerts_open", "alerts", ["ended_at_ms", "began_at_ms"])
    op.create_table(
        "notices",
        sa.Column("alert", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("sent_at_ms", sa.BigInteger),
    )
    op.create_index("notices_unsent", "notices", ["sent_at_ms", "created_at_ms"])
    op.create_table(
        "chunks",
        sa.Column("box", sa.Text, primary_key=True),
        sa.Column("instrument", sa.Text, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("statuses", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )


def _coverage(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    """Yield the rows of `coverage` that belong to the records."""
    sequences = sa.text(
        "SELECT box, epoch, sequence, CASE WHEN kind = 'gap' THEN body END FROM records_0001 ORDER BY box, epoch"
    )
    for (box, epoch), rows in groupby(connection.execute(sequences), lambda row: (row[0], row[1])):
        stored, lost = RangeSet(), RangeSet()
        for _, _, sequence, gap in rows:
            stored.add(sequence, sequence)
            for first, last in decode(Gap, bytes(gap)).ranges if gap is not None else ():
                lost.add(first, last)
        gaps = encode_ranges(lost) if lost else None
        yield {"box": box, "stream": BOX_STREAM, "life": epoch, "stored": encode_ranges(stored), "lost": gaps}
    numbers = sa.text(
        "SELECT box, instrument, run, number FROM records_0001 WHERE number IS NOT NULL"
        " ORDER BY box, instrument, run"
    )
    for (box, instrument, run), rows in groupby(connection.execute(numbers), lambda row: tuple(row[:3])):
        stored = RangeSet((number, number) for *_, number in rows)
        yield {"box": box, "stream": instrument, "life": run, "stored": encode_ranges(stored), "lost": None}
