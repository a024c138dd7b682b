"""Lists of audit records of boxes and of their chains, read page by page after a key, the latest records first.

The state of a chain is that of its verification as records arrived. `datacenter.audit.boxes` verifies stored records.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeAlias

from sqlalchemy import case, func, literal, select, tuple_

from datacenter.audit.boxes import DOUBTFUL, AuditSearch, record_of
from datacenter.store.box_audit import AuditRecord
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_audit, box_audit_problems, box_chains

RecordKey: TypeAlias = tuple[int, str, int, int, bytes]
"""The sort key of a record in the list: time, box, chain, number, hash."""
ChainKey: TypeAlias = tuple[str, int]
"""Box and epoch of a chain."""
_A, _C, _P = box_audit.c, box_chains.c, box_audit_problems.c
_KEY: Final = (_A.at_ms, _A.box, _A.epoch, _A.number, _A.hash)


def key_of(record: AuditRecord) -> RecordKey:
    """Return the sort key of a record in the list."""
    return record.at_ms, record.box, record.epoch, record.number, record.hash


def list_records(
    store: Store,
    wanted: AuditSearch,
    limit: int,
    before: RecordKey | None = None,
    after: RecordKey | None = None,
) -> list[AuditRecord]:
    """Return `limit` records, latest first: the latest before a key, or the earliest after it. Raises: StoreError."""
    query: Any = select(*(_A[name] for name in AuditRecord._fields)).where(*wanted.clauses).limit(limit)
    if after is not None:
        query = query.where(tuple_(*_KEY) > tuple_(*map(literal, after))).order_by(*_KEY)
    else:
        query = query.order_by(*(column.desc() for column in _KEY))
        query = query if before is None else query.where(tuple_(*_KEY) < tuple_(*map(literal, before)))
    records = [record_of(row) for part in store.parts for row in part.read(query)]
    records.sort(key=key_of, reverse=True)
    return records[:limit] if after is None else records[-limit:]


class ChainProblem(NamedTuple):
    """A problem that was found when records of a chain arrived."""

    number: int
    """The number of the record."""
    problem: str
    at_ms: int


class BoxChain(NamedTuple):
    """The state of a chain."""

    box: str
    epoch: int
    verified: int
    """The number of the record up to which the chain is verified."""
    last: int
    """The highest number that has arrived."""
    waiting_since_ms: int | None
    """The time since which records have been waiting for missing predecessors."""
    forwarded: int
    """The number of the record up to which a SIEM has received them."""
    records: int
    doubtful: int
    """Number of records with an implausible time."""
    arrived_ms: int | None
    """The time at which the latest record arrived."""
    problems: tuple[ChainProblem, ...] = ()


PROBLEMS_SHOWN: Final = 20
"""Maximum number of problems of a chain that are returned."""


def list_chains(store: Store, box: str, limit: int, after: ChainKey | None = None) -> list[BoxChain]:
    """Return chains after a key, by box and epoch: of one box, or of all boxes. Raises: StoreError."""
    key = tuple_(_C.box, _C.epoch)
    query: Any = select(_C.box, _C.epoch, _C.number, _C.last, _C.waiting_since_ms, _C.forwarded)
    query = query.order_by(_C.box, _C.epoch).limit(limit)
    query = query.where(_C.box == box) if box else query
    query = query if after is None else query.where(key > tuple_(*map(literal, after)))
    chains: list[BoxChain] = []
    for part in store.parts:
        rows = list(part.read(query))
        counts = _counts(part, [(row.box, row.epoch) for row in rows])
        chains += [BoxChain(*row, *counts.get((row.box, row.epoch), (0, 0, None))) for row in rows]
    chains.sort()
    return [chain._replace(problems=_problems_of(store.of(chain.box), chain)) for chain in chains[:limit]]


def count_problems(store: Store) -> int:
    """Return the number of chains with problems found at arrival. Raises: StoreError."""
    chains = select(_P.box, _P.epoch).distinct().subquery()
    return sum(next(part.read(select(func.count()).select_from(chains)))[0] for part in store.parts)


def _counts(store: Store, keys: Iterable[ChainKey]) -> dict[ChainKey, tuple[int, int, int]]:
    """Return by chain the number of records, of implausible times, and the latest time of arrival."""
    doubtful = func.sum(case((DOUBTFUL, 1), else_=0))
    query = (
        select(_A.box, _A.epoch, func.count(), doubtful, func.max(_A.stored_at_ms))
        .where(tuple_(_A.box, _A.epoch).in_(list(keys)))
        .group_by(_A.box, _A.epoch)
    )
    return {(box, epoch): (count, int(wrong), at) for box, epoch, count, wrong, at in store.read(query)}


def _problems_of(store: Store, chain: BoxChain) -> tuple[ChainProblem, ...]:
    query = select(_P.number, _P.problem, _P.at_ms).where(_P.box == chain.box, _P.epoch == chain.epoch)
    rows = store.read(query.order_by(_P.number, _P.problem).limit(PROBLEMS_SHOWN))
    return tuple(map(ChainProblem._make, rows))
