"""Reads the audit log for auditors: records by filters, the latest first, and the state of the chain."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct
from sqlalchemy import Select, func, select

from datacenter.audit.chain import AuditRow
from datacenter.audit.trail import AuditTrail, audit_row
from datacenter.store.store import Store
from datacenter.store.tables.schema import audit
from wire.hash_chain import START, ChainHead, chain_problems

PAGE_SIZE: Final = 50
EXPORT_MAX: Final = 100_000
"""Maximum number of records of an export."""
VERIFIED_AT_ONCE: Final = 20_000
"""Maximum number of records that one call verifies: about 0.2 s."""
_A: Final = audit.c


class AuditFilter(Struct, frozen=True):
    """Selects records; an empty field selects all. Actor and action are compared exactly."""

    actor: str = ""
    action: str = ""
    outcome: Literal["permitted", "refused", ""] = ""
    resource: str = ""
    since_ms: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None
    until_ms: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None


def list_audit(
    store: Store, wanted: AuditFilter, limit: int, *, offset: int = 0, before: int | None = None
) -> list[AuditRow]:
    """Return records, the latest first; with `before`, those with lower numbers. Raises: StoreError."""
    query = _where(select(audit), wanted).order_by(_A.number.desc())
    if before is not None:
        query = query.where(_A.number < before)
    return list(_rows(store, query.limit(limit).offset(offset)))


def count_audit(store: Store, wanted: AuditFilter) -> int:
    """Return the number of records. Raises: StoreError."""
    return int(next(store.read(_where(select(func.count()).select_from(audit), wanted)))[0])


@dataclass(frozen=True)
class ChainState:
    """The progress of the verification. `problems` are the problems of the current and the previous pass."""

    verified: int
    last: int
    passed_at_ms: int | None
    """The time at which a pass over all records ended; None before the first."""
    problems: tuple[str, ...]


class ChainVerifier:
    """Verifies the chain step by step, so that a page is fast; a new pass begins when one ends."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._head = ChainHead(0, START)
        self._passed_at_ms: int | None = None
        self._new_problems: list[str] = []
        self._before: list[str] = []

    def advance(self, now_ms: int, limit: int = VERIFIED_AT_ONCE) -> ChainState:
        """Verify the next records, and return the state. Raises: StoreError."""
        with self._lock:
            head = AuditTrail(self._store).head()
            if self._head.number >= head.number:
                self._head, self._before, self._new_problems = ChainHead(0, START), self._new_problems, []
            first = self._head
            query = select(audit).where(_A.number > first.number).order_by(_A.number).limit(limit)
            rows = [row for row in _rows(self._store, query) if row.number <= head.number]
            is_last = len(rows) < limit or rows[-1].number == head.number
            end = head if is_last else ChainHead(rows[-1].number, rows[-1].hash)
            self._new_problems += chain_problems(rows, end, start=first)
            self._head = end
            if is_last:
                self._passed_at_ms = now_ms
            problems = dict.fromkeys([*self._new_problems, *([] if is_last else self._before)])
            return ChainState(end.number, head.number, self._passed_at_ms, tuple(problems))


def _where(query: Select[Any], wanted: AuditFilter) -> Select[Any]:
    for column, value in ((_A.actor, wanted.actor), (_A.action, wanted.action), (_A.outcome, wanted.outcome)):
        if value:
            query = query.where(column == value)
    if wanted.resource:
        query = query.where(func.lower(_A.resource).contains(wanted.resource.lower(), autoescape=True))
    if wanted.since_ms is not None:
        query = query.where(_A.at_ms >= wanted.since_ms)
    if wanted.until_ms is not None:
        query = query.where(_A.at_ms < wanted.until_ms)
    return query


def _rows(store: Store, query: Select[Any]) -> Iterator[AuditRow]:
    yield from map(audit_row, store.read(query))
