"""The audit log in the database: appending, without forks of the chain, and verification.

Appending locks the row of `audit_head` until the commit, so that records of several processes form one chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select, text, update

from datacenter.access.decision import Decision
from datacenter.audit.chain import AuditEntry, AuditRow, chained
from datacenter.store.store import Store
from datacenter.store.tables.schema import audit, audit_head
from wire.hash_chain import START, ChainHead, chain_problems

_FIRST: Final = text(
    "INSERT INTO audit_head (id, number, hash) VALUES (1, 0, :start) ON CONFLICT DO NOTHING"
).bindparams(start=START)
_ROWS_FETCHED: Final = 1_000


class AuditTrail:
    """The audit log in the database of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def record(self, decision: Decision) -> None:
        """Append a decision; committed on return. Raises: StoreError."""
        self.append([entry_of(decision)])

    def append(self, entries: Sequence[AuditEntry]) -> ChainHead:
        """Append entries, all or none, and return the new head; committed on return. Raises: StoreError."""
        with self._store.transaction() as connection:
            return append_within(connection, entries)

    def head(self) -> ChainHead:
        """Return the number of records and the last hash, to be noted outside of the database. Raises: StoreError."""
        with self._store.transaction() as connection:
            return _head(connection)

    def problems(self, known: Iterable[ChainHead] = ()) -> list[str]:
        """Verify the whole log and return the problems; `known` are heads that were noted before. Raises: StoreError.

        Records appended during the verification are not an error: they are committed together with their head.
        """
        with self._store.transaction() as connection:
            last = connection.scalar(select(func.max(audit.c.number))) or 0
            head = _head(connection)
            return list(chain_problems(_rows(connection, max(last, head.number)), head, known))


def append_within(connection: Connection, entries: Sequence[AuditEntry]) -> ChainHead:
    """Append entries in a transaction, as `AuditTrail.append` does."""
    head = _locked_head(connection)
    rows = list(chained(head, (entry.cleaned() for entry in entries)))
    if not rows:
        return head
    connection.execute(insert(audit), [_values(row) for row in rows])
    head = ChainHead(rows[-1].number, rows[-1].hash)
    connection.execute(update(audit_head).values(asdict(head)))
    return head


def entry_of(decision: Decision) -> AuditEntry:
    """Return the audit entry of a decision."""
    request = decision.request
    context, resource = request.context, request.resource
    return AuditEntry(
        context.now_ms,
        request.principal.id,
        context.token.id if context.token else "",
        request.action,
        resource.kind,
        resource.id,
        ", ".join(resource.locations[:-1]),
        context.purpose,
        "permitted" if decision.permitted else "refused",
        decision.policy.id if decision.policy else "",
        decision.reason,
    )


def _locked_head(connection: Connection) -> ChainHead:
    """Return the head, and keep other processes from appending until the end of the transaction.

    In SQLite the insertion, as a writing statement, already acquires the lock of the database.
    """
    connection.execute(_FIRST)
    return _head(connection, lock=True)


def _head(connection: Connection, *, lock: bool = False) -> ChainHead:
    query = select(audit_head.c.number, audit_head.c.hash)
    head = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return ChainHead(head.number, head.hash) if head else ChainHead(0, START)


def _values(row: AuditRow) -> dict[str, object]:
    return {"number": row.number, **asdict(row.entry), "previous": row.previous, "hash": row.hash}


def _rows(connection: Connection, last: int) -> Iterator[AuditRow]:
    """Yield the records up to a number, in their order."""
    query = (
        select(audit)
        .where(audit.c.number <= last)
        .order_by(audit.c.number)
        .execution_options(yield_per=_ROWS_FETCHED)
    )
    for row in connection.execute(query):
        yield audit_row(row)


def audit_row(row: Iterable[Any]) -> AuditRow:
    """Return the record of a row of `audit`."""
    number, *values, previous, digest = row
    return AuditRow(number, AuditEntry(*values), previous, digest)
