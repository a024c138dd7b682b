"""Removes the beginnings of boxes' audit chains after their retention time.

Only verified records are removed and, if records are forwarded to a SIEM, only delivered ones. The last record of a
chain is kept. The number and hash of the last removed record are kept for the verification of later records.
"""

from __future__ import annotations

from sqlalchemy import Case, Connection, and_, case, delete, func, or_, select, update

from datacenter.store.store import Store
from datacenter.store.tables.schema import box_audit, box_chains

_A, _C = box_audit.c, box_chains.c


def remove_old_records(part: Store, before_ms: int, limit: int) -> int:
    """Remove up to `limit` records that arrived before a time, the oldest of one chain; return their number.

    Raises: StoreError.
    """
    of_chain = and_(_A.box == _C.box, _A.epoch == _C.epoch)
    is_kept = or_(_A.stored_at_ms >= before_ms, _A.number >= _first_needed())
    first_kept = select(func.min(_A.number)).where(of_chain, is_kept).scalar_subquery()
    first = select(func.min(_A.number)).where(of_chain).scalar_subquery()
    query = select(_C.box, _C.epoch, first, first_kept).where(first < first_kept).limit(1)
    with part.transaction() as connection:
        row = connection.execute(query).one_or_none()
        return 0 if row is None else _remove(connection, *row, limit)


def _first_needed() -> Case[int]:
    """Return the number of the head, or of the first record that the SIEM has not received, as an SQL expression."""
    waits = and_(_C.forwarded > 0, _C.forwarded < _C.number)
    return case((waits, _C.forwarded + 1), else_=_C.number)


def _remove(connection: Connection, box: str, epoch: int, first: int, first_kept: int, limit: int) -> int:
    last = min(first + limit, first_kept) - 1
    of_chain = (_A.box == box, _A.epoch == epoch)
    removed = connection.execute(
        select(_A.number, _A.hash).where(*of_chain, _A.number <= last).order_by(_A.number.desc())
    ).all()
    chain = (_C.box == box, _C.epoch == epoch)
    values = {"removed": removed[0].number, "removed_hash": removed[0].hash}
    connection.execute(update(box_chains).where(*chain).values(values))
    # a line that the box sent again is kept once: the later record is then no longer marked as repeated
    lines = select(_A.line).where(*of_chain, _A.number <= last, _A.line.is_not(None))
    again = (_A.box == box, _A.is_repeated == 1, _A.line.in_(lines))
    connection.execute(update(box_audit).where(*again).values(is_repeated=0))
    connection.execute(delete(box_audit).where(*of_chain, _A.number <= last))
    return len(removed)
