"""Decisions of staff about the certificates of a lab's box, in the database of the data center."""

from __future__ import annotations

from typing import Final

from sqlalchemy import delete, insert, update

from datacenter.store.store import Store
from datacenter.store.tables.schema import denied_boxes, enrolments

_STAFF: Final = "supervisor"


def approve_waiting(store: Store, now_ms: int) -> None:
    """Approve all pending requests. Raises: StoreError."""
    decision = {"state": "approved", "decided_by": _STAFF, "decided_at_ms": now_ms}
    with store.transaction() as connection:
        connection.execute(update(enrolments).where(enrolments.c.state == "waiting").values(decision))


def follow_denial(store: Store, box: str, now_ms: int, *, is_denied: bool) -> None:
    """Put the box on the deny-list, or take it off. Raises: StoreError."""
    row = {"box": box, "denied_at_ms": now_ms, "denied_by": _STAFF, "reason": "lab"}
    with store.transaction() as connection:
        connection.execute(delete(denied_boxes))
        if is_denied:
            connection.execute(insert(denied_boxes).values(row))
