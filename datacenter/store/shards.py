"""A store whose reports are distributed over several PostgreSQL servers, the shards.

The reports and audit records of a box (`datacenter.store.moving.REPORTS`) are in the database of its shard.
Everything else is in the main database, whose table `boxes` has the shard of each box. A new box gets the shard with
the highest weight, a hash of both names (rendezvous hashing), and keeps it: if a shard is added, no report moves, and
only new boxes are assigned to it. Boxes without a shard, which are older than the shards, have their reports in the
main database.

A batch is committed in its shard, then its reports about commands in the main database, and then it is acknowledged.
After a failure between the two the box sends it again: no record is new, and the commands follow.

Evaluation stores its position in the main database, in the transaction of its effects, and copies it to the shard,
where archive and retention compare with it. A copy may be behind, but never ahead.

Which boxes may send is decided in the main database; a shard has a copy for its own boxes, made when it is opened,
and for a single box when it first sends. A program may start while a shard is down: until it can be opened, each call
to it raises StoreError.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from threading import Lock
from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError

from datacenter.store.batches.batch import Received, exchange_commands, store_records
from datacenter.store.errors import StoreError, UnknownBoxError
from datacenter.store.store import Store, StoreWriter
from datacenter.store.tables.schema import boxes
from wire.messages import BatchReply

_log: Final = logging.getLogger(__name__)


def choose_shard(box: str, names: Collection[str]) -> str:
    """Return the shard for a new box."""
    return max(names, key=lambda name: sha256(f"{name}\0{box}".encode()).digest())


class Shard(Store):
    """The database of one shard of the store `main`."""

    def __init__(self, name: str, url: str, main: ShardedStore) -> None:
        self.name, self._main = name, main
        self._commands = main.make_writer()
        """Writes to the main database, only for this shard."""
        self._is_open = False
        self._opening = Lock()
        super().__init__(url)

    def _prepare(self) -> None:
        """See `Store._prepare`; a database that does not respond is opened later."""
        try:
            super()._prepare()
        except StoreError as error:
            if not isinstance(error.__context__, OperationalError):
                raise
            _log.error("shard %s: its boxes wait until its database responds: %s", self.name, error)
            return
        self._is_open = True

    def close(self) -> None:
        """Close the connections, including the connection to the main database."""
        self._commands.release()
        super().close()

    def check(self) -> None:
        """Raise StoreError if the database has boxes of another shard, or is a main database."""
        if self._is_open:
            with super().transaction() as connection:
                self._check(connection)

    def _check(self, connection: Connection) -> None:
        for name in connection.scalars(select(boxes.c.shard).distinct()):
            if name is None:
                raise StoreError(
                    f"the database of shard {self.name} has the reports of a main database: give an empty database"
                )
            if name != self.name:
                raise StoreError(
                    f"the database of shard {self.name} is that of shard {name}: correct the URLs"
                )

    def _open(self) -> None:
        """Open a database that did not respond at the start of the program. Raises: StoreError."""
        with self._opening:
            if self._is_open:
                return
            super()._prepare()
            with super().transaction() as connection:
                self._check(connection)
                self._authorize(connection, self._main.boxes_of(self.name), 0)
            self._is_open = True
            _log.info("shard %s: its database responds", self.name)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """See `Store.transaction`."""
        self._open()
        with super().transaction() as connection:
            yield connection

    def authorize(self, serials: Collection[str], now_ms: int) -> None:
        """See `Store.authorize`; boxes are authorized later if the database does not respond yet."""
        if self._is_open:
            super().authorize(serials, now_ms)

    def ingest_all(self, received: Sequence[Received]) -> list[BatchReply | UnknownBoxError | StoreError]:
        """See `Store.ingest_all`."""
        try:
            self._open()
        except StoreError as error:
            return [error] * len(received)
        outcomes = super().ingest_all(received)
        unknown = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, UnknownBoxError)]
        if unknown and self._copy_boxes({received[index].box for index in unknown}):
            again = super().ingest_all([received[index] for index in unknown])
            for index, outcome in zip(unknown, again, strict=True):
                outcomes[index] = outcome
        return outcomes

    def _copy_boxes(self, wanted: Collection[str]) -> bool:
        """Authorize boxes that were authorized in the main database meanwhile; return whether there are any."""
        try:
            copied = self._main.boxes_of(self.name) & set(wanted)
            with super().transaction() as connection:
                for box in copied:
                    self._enrol(connection, box, 0)
        except StoreError:
            return False  # their batches are refused, and sent again
        return bool(copied)

    def drop_empty_partitions(self, now_ms: int) -> int:
        """See `Store.drop_empty_partitions`."""
        self._open()
        return super().drop_empty_partitions(now_ms)

    def _new_shard(self, box: str) -> str | None:  # noqa: ARG002
        return self.name

    def _store(self, received: Sequence[Received]) -> list[BatchReply | UnknownBoxError | StoreError]:
        with self._writer.cursor() as cursor:
            stored = store_records(self._statements, cursor, received)
        accepted = stored.accepted
        with self._commands.cursor() as cursor:
            self._statements.lock(cursor, {batch.box for batch in accepted})
            due = exchange_commands(self._statements, cursor, accepted)
        return stored.replies(due)


class ShardedStore(Store):
    """The store of a main database and its shards, given by name, with the interface of `Store`.

    Each of `parts` may store batches in a separate thread.

    Raises: StoreError; ValueError as `Store`.
    """

    def __init__(self, url: str, shards: Mapping[str, str]) -> None:
        super().__init__(url)
        self._shards: dict[str, Shard] = {}
        self._stores_of_boxes: dict[str, Store] = {}
        """The stores of boxes, which do not change while a program runs."""
        try:
            for name, shard_url in shards.items():
                self._shards[name] = Shard(name, shard_url, self)
        except BaseException:
            self.close()
            raise

    @property
    def parts(self) -> Sequence[Store]:
        """The main store and the shards."""
        return (self, *self._shards.values())

    def close(self) -> None:
        """Close the connections to all databases."""
        for shard in self._shards.values():
            shard.close()
        super().close()

    def check(self) -> None:
        """See `Store.check`. Raises: StoreError also if a database belongs to another shard."""
        super().check()
        for shard in self._shards.values():
            shard.check()

    @property
    def shards(self) -> Mapping[str, Shard]:
        """The shards by name."""
        return self._shards

    def forget(self, box: str) -> None:
        """Look up the shard of a box again, after it was moved."""
        self._stores_of_boxes.pop(box, None)

    def make_writer(self) -> StoreWriter:
        """Return a further connection to the main database."""
        return StoreWriter(self._engine)

    def boxes_of(self, shard: str) -> set[str]:
        """Return the authorized boxes of a shard. Raises: StoreError."""
        of_shard = select(boxes.c.serial).where(boxes.c.shard == shard, boxes.c.dismissed_at_ms.is_(None))
        return {box for (box,) in self.read(of_shard)}

    def authorize(self, serials: Collection[str], now_ms: int) -> None:
        """See `Store.authorize`; new boxes are assigned to shards."""
        super().authorize(serials, now_ms)
        authorized = set(serials)
        of_shard = defaultdict(list)
        for box, name in list(self.read(select(boxes.c.serial, boxes.c.shard))):
            self._stores_of_boxes[box] = self._named(name)
            if box in authorized:
                of_shard[name].append(box)
        for name, shard in self._shards.items():
            shard.authorize(of_shard[name], now_ms)

    def of(self, box: str) -> Store:
        """Return the store with the reports of a box; the main store if there is no such box. Raises: StoreError."""
        if box in self._stores_of_boxes:
            return self._stores_of_boxes[box]
        for (name,) in list(self.read(select(boxes.c.shard).where(boxes.c.serial == box))):
            self._stores_of_boxes[box] = self._named(name)
        return self._stores_of_boxes.get(box, self)

    def ingest_all(self, received: Sequence[Received]) -> list[BatchReply | UnknownBoxError | StoreError]:
        """See `Store.ingest_all`; there is one transaction for each shard."""
        indexes: defaultdict[Store, list[int]] = defaultdict(list)
        for index, batch in enumerate(received):
            indexes[self.of(batch.box)].append(index)
        outcomes: dict[int, BatchReply | UnknownBoxError | StoreError] = {}
        for part, of_part in indexes.items():
            batches = [received[index] for index in of_part]
            replies = super().ingest_all(batches) if part is self else part.ingest_all(batches)
            outcomes.update(zip(of_part, replies, strict=True))
        return [outcomes[index] for index in range(len(received))]

    @property
    def _shard_names(self) -> Collection[str]:
        return self._shards

    def _new_shard(self, box: str) -> str | None:
        return choose_shard(box, self._shards)

    def _named(self, name: str | None) -> Store:
        if name is None:
            return self
        if name not in self._shards:
            raise StoreError(f"another process has added shard {name}: add it to [[store.shards]] here, too")
        return self._shards[name]


def open_store(url: str, shards: Mapping[str, str]) -> Store:
    """Open the store of a main database at `url` and of its shards, given by name; there may be none.

    Raises: StoreError; ValueError as `Store`.
    """
    return ShardedStore(url, shards) if shards else Store(url)
