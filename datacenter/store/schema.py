"""The database tables, with types that SQLite and PostgreSQL share.

Each of a record's two identities prevents duplicates:

* (box, epoch, sequence), assigned by the box: a batch whose response was lost is sent again under the same identity.
* (box, instrument, run, number), assigned by the instrument: a box whose high-water marks were damaged may accept a
  report twice, under two sequences. Records of the box itself have the number NULL, which is distinct from every
  other NULL.

`body` is the report in MessagePack, as defined in `wire.messages`; the other columns are for queries. Times are in
milliseconds since 1970: `at_ms` by the reporter's clock, all others by the data center's.

A change here needs a revision in `datacenter/store/migrations/versions/` that makes the same change to an existing
database.
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
"""The revision whose migration creates these tables."""

boxes = Table(
    "boxes",
    metadata,
    Column("serial", Text, primary_key=True),
    Column("enrolled_at_ms", BigInteger, nullable=False),
    Column("dismissed_at_ms", BigInteger),  # if set, the box is no longer authorized; its records are kept
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
    sqlite_with_rowid=False,  # stores rows in the tree of the primary key: one tree less to write for each record
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
    sqlite_autoincrement=True,  # numbers are never reused, as in PostgreSQL
)
