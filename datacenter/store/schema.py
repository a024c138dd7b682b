"""The tables, in words that SQLite and PostgreSQL share.

A record has two identities, and either one keeps it from being stored twice:

* (box, epoch, sequence), the box's own: a batch whose response was lost comes again under the same one.
* (box, instrument, run, number), the instrument's: a report that the box took twice, because its memory of having
  taken it rotted away, comes under two sequences. Records of the box itself have no number: NULL, which is
  distinct from every other NULL.

`body` is the report's MessagePack as `wire.messages` defines it; the columns beside it are what queries ask for.
Times are milliseconds since 1970: `at_ms` by the reporter's clock, all others by the data center's.

A change here needs a revision in `datacenter/store/migrations/versions/` that makes the same change to a
database in use.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

REVISION: Final = "0001"
"""The migration that makes these tables."""

boxes = Table(
    "boxes",
    metadata,
    Column("serial", Text, primary_key=True),
    Column("enrolled_at_ms", BigInteger, nullable=False),
    Column("dismissed_at_ms", BigInteger),  # set: its records stay, and it may send no more
)

records = Table(
    "records",
    metadata,
    Column("box", Text, ForeignKey("boxes.serial"), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("instrument", Text, nullable=False),
    Column("run", BigInteger, nullable=False),
    Column("number", BigInteger),
    Column("kind", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("stored_at_ms", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("box", "instrument", "run", "number"),
    sqlite_with_rowid=False,  # rows live in the primary key's own tree: one tree less to write for each record
)

commands = Table(
    "commands",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("box", Text, ForeignKey("boxes.serial"), nullable=False),
    Column("instrument", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("delivered_count", Integer, nullable=False, default=0),
    Column("due_at_ms", BigInteger, nullable=False),
    Column("outcome", Text),
    Column("closed_at_ms", BigInteger),
    Index("commands_waiting", "box", "outcome", "due_at_ms"),
    sqlite_autoincrement=True,  # a number is never given to a second command, as in PostgreSQL
)
