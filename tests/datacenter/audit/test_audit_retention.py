"""Old audit records of boxes are removed from the beginning of each chain, and the rest can still be verified."""

from __future__ import annotations

from hashlib import sha256

import pytest
from sqlalchemy import select, update

from datacenter.audit.boxes import AuditSearch, box_chain_problems, find_records
from datacenter.audit.retention import remove_old_records
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_audit, box_chains
from tests.support.datacenter.store.box_audit import NOW, chain, send
from wire.audit_head import KnownHead

DAY_MS = 86_400_000
ENTRIES = chain(6, lines=2)


def numbers(store: Store) -> list[int]:
    return [number for (number,) in store.read(select(box_audit.c.number).order_by(box_audit.c.number))]


def remove_all(store: Store, before_ms: int, limit: int = 2) -> int:
    removed = 0
    while count := remove_old_records(store, before_ms, limit):
        assert count <= limit
        assert not list(box_chain_problems(store)), "the chain must be valid after each call"
        removed += count
    return removed


def test_the_beginning_is_removed_and_the_rest_is_verified(store: Store) -> None:
    send(store, ENTRIES[:5])
    send(store, ENTRIES[5:], first=6, now_ms=NOW + DAY_MS)
    assert remove_all(store, NOW) == 0
    assert remove_all(store, NOW + 1) == 5
    assert numbers(store) == [6, 7, 8]
    old = KnownHead(5, 3, sha256(ENTRIES[2]).digest())
    assert not list(box_chain_problems(store, "", None, [("RAP-0001", old)]))
    send(store, ENTRIES[2:], first=3, now_ms=NOW + 2 * DAY_MS)
    assert 3 not in numbers(store), "a removed record must not be stored again"
    with store.transaction() as connection:
        connection.execute(update(box_chains).values(removed_hash=bytes(32)))
    assert list(box_chain_problems(store))


def test_the_last_record_and_unforwarded_records_are_kept(store: Store) -> None:
    send(store, ENTRIES)
    with store.transaction() as connection:
        connection.execute(update(box_chains).values(forwarded=2))
    assert remove_all(store, NOW + DAY_MS) == 2
    with store.transaction() as connection:
        connection.execute(update(box_chains).values(forwarded=8))
    remove_all(store, NOW + DAY_MS)
    assert numbers(store) == [8]
    assert not list(box_chain_problems(store))


def test_unverified_records_are_kept(store: Store) -> None:
    send(store, ENTRIES[:4])
    send(store, ENTRIES[5:], first=6)
    assert remove_old_records(store, NOW + DAY_MS, 100) == 3
    assert numbers(store) == [4, 6, 7, 8], "record 5 has not arrived"
    send(store, ENTRIES[4:5], first=5)
    assert not list(box_chain_problems(store))


def test_a_line_that_was_sent_again_is_still_found(store: Store) -> None:
    send(store, chain(0, lines=3))
    send(store, chain(0, lines=3), epoch=6, now_ms=NOW + DAY_MS)
    assert len(list(find_records(store, AuditSearch()))) == 3
    assert remove_all(store, NOW + 1) == 2
    assert len(list(find_records(store, AuditSearch()))) == 3
    assert not list(box_chain_problems(store))


@pytest.mark.parametrize("at", range(1, 8))
def test_a_removal_that_retention_did_not_make_is_found(store: Store, at: int) -> None:
    send(store, ENTRIES)
    with store.transaction() as connection:
        connection.execute(box_audit.delete().where(box_audit.c.number <= at))
    assert list(box_chain_problems(store))
