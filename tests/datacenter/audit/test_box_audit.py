"""Audit records of boxes at the data center are stored once and verified; every manipulation is detected."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import pytest
from sqlalchemy import delete, insert, select, update

from datacenter.audit.box_lists import count_problems, key_of, list_chains, list_records
from datacenter.audit.boxes import BLOCK, AuditSearch, box_chain_problems, find_records, search_line
from datacenter.store.box_audit import HOLE_MS
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_audit, box_chains
from tests.support.datacenter.store.batches import AT_MS
from tests.support.datacenter.store.box_audit import NOW, chain, send
from wire.messages import Audit, AuditLink, Entry, decode, encode


def problems(store: Store) -> list[str]:
    return list(box_chain_problems(store))


def test_records_are_stored_once_and_found(store: Store) -> None:
    entries = chain(3, lines=2)
    send(store, entries[:3])
    send(store, entries)
    assert not problems(store)
    records = list(find_records(store, AuditSearch()))
    assert [record.number for record in records] == [1, 2, 3, 4, 5]
    (line,) = find_records(store, AuditSearch(box="RAP-0001", text="AUDIT(5."))
    assert search_line(line).endswith("RAP-0001 5 type=LOGIN msg=audit(5.000:7): uid=0")
    assert not list(find_records(store, AuditSearch(box="RAP-0002")))
    assert not list(find_records(store, AuditSearch(since_ms=AT_MS + 1)))


def test_records_of_many_blocks_are_found_once(store: Store) -> None:
    entries = chain(BLOCK + 3)
    for first in range(0, len(entries), 1_000):
        send(store, entries[first : first + 1_000], first + 1)
    send(store, chain(2), epoch=6)
    keys = [(record.epoch, record.number) for record in find_records(store, AuditSearch())]
    assert keys == [*((5, 1 + each) for each in range(BLOCK + 3)), (6, 1), (6, 2)]


def test_lists_are_the_same_in_every_database(store: Store) -> None:
    send(store, chain(3, lines=2))
    send(store, chain(2, at_ms=1), epoch=6)
    records = list_records(store, AuditSearch(), 10)
    assert [(one.epoch, one.number) for one in records] == [
        (5, 5),
        (5, 4),
        (5, 3),
        (5, 2),
        (5, 1),
        (6, 2),
        (6, 1),
    ]
    assert list_records(store, AuditSearch(), 3, before=key_of(records[1])) == records[2:5]
    assert list_records(store, AuditSearch(), 3, after=key_of(records[4])) == records[1:4]
    assert list_records(store, AuditSearch(is_doubtful=True, kind="audit"), 9) == records[5:]
    first, second = list_chains(store, "", 9)
    assert (first.epoch, first.verified, first.records, first.doubtful) == (5, 5, 5, 0)
    assert (second.records, second.doubtful, second.arrived_ms) == (2, 2, NOW)
    assert list_chains(store, "RAP-0001", 9, after=("RAP-0001", 5)) == [second]
    assert count_problems(store) == 0


def test_records_may_arrive_in_another_order(store: Store) -> None:
    entries = chain(6)
    send(store, entries[4:], first=5)
    send(store, entries[2:4], first=3)
    send(store, entries[:2])
    assert not problems(store)


def test_a_hole_is_found_when_it_is_late(store: Store) -> None:
    entries = chain(6)
    send(store, entries[:2])
    send(store, entries[4:5], first=5)
    send(store, entries[5:], first=6, now_ms=NOW + HOLE_MS)
    assert "RAP-0001: chain 5: found at arrival: records 3 to 4 are missing" in problems(store)
    assert "RAP-0001: chain 5: records 3 to 4 are missing" in problems(store)


def test_hyprstream_675_a_box_whose_tail_was_cut_off_is_found_when_it_goes_on(store: Store) -> None:
    entries = chain(4)
    send(store, entries)
    forged = encode(Entry("", 0, Audit(AT_MS, "alive", 0, 99), AuditLink(4, sha256(entries[2]).digest())))
    send(store, [forged], first=4)
    assert (
        "RAP-0001: chain 5: found at arrival: the box sent record 4 a second time, with different content"
        in problems(store)
    )


def test_lines_that_are_sent_again_are_found_once(store: Store) -> None:
    first = chain(0, lines=3)
    send(store, first)
    send(store, chain(1, lines=3)[:1], epoch=6)
    again = encode(Entry("", 0, decode(Entry, first[1]).body, AuditLink(2, sha256(chain(1)[0]).digest())))
    send(store, [again], first=2, epoch=6)
    assert not problems(store)
    lines = [record for record in find_records(store, AuditSearch()) if record.kind == "line"]
    assert len(lines) == 3


def test_a_wrong_clock_is_shown(store: Store) -> None:
    send(store, [encode(Entry("", 0, Audit(1, "started"), AuditLink(1, bytes(32))))])
    (record,) = find_records(store, AuditSearch())
    assert search_line(record).startswith("1970-01-01T00:00:00.001Z? RAP-0001")


ENTRIES = chain(2, lines=1)
COLUMNS = ("number", "hash", "at_ms", "kind", "text", "line", "is_repeated", "entry")


def manipulations() -> Iterator[tuple[str, list[int], dict[tuple[int, str], object]]]:
    """Yield every manipulation of ENTRIES: its name, the numbers of the kept records, and the changed columns.

    A new value is None if any other value of the column's type will do, and a pair (number, column) if it is copied.
    """
    everything = [1, 2, 3]
    for last in range(3):
        yield f"cut after {last}", everything[:last], {}
    for number in everything:
        yield f"without {number}", [each for each in everything if each != number], {}
        for column in COLUMNS:
            yield f"{column} of {number}", everything, {(number, column): None}
        entry = ENTRIES[number - 1]
        for offset in range(len(entry)):
            changed = entry[:offset] + bytes([entry[offset] ^ 1]) + entry[offset + 1 :]
            yield f"byte {offset} of {number}", everything, {(number, "entry"): changed}
        for other in range(1, number):
            swap = {
                (a, c): (b, c)
                for a, b in ((number, other), (other, number))
                for c in COLUMNS
                if c != "number"
            }
            yield f"{other} and {number} exchanged", everything, dict(swap)


@pytest.mark.slow("hundreds of manipulations, each verified")
def test_every_manipulation_of_stored_records_is_found() -> None:
    missed = []
    store = Store("sqlite://", durable=False)
    store.authorize(["RAP-0001"], 0)
    send(store, ENTRIES)
    rows = {row.number: row._asdict() for row in store.read(select(box_audit))}
    for name, kept, changes in manipulations():
        changed = {number: dict(rows[number]) for number in kept}
        for (number, column), value in changes.items():
            old = rows[number][column]
            if isinstance(value, tuple):
                changed[number][column] = rows[value[0]][value[1]]
            elif value is not None:
                changed[number][column] = value
            elif isinstance(old, int):
                changed[number][column] = old + 7 if column != "is_repeated" else 1
            else:
                changed[number][column] = "x" if isinstance(old, str) else b"x"
        with store.transaction() as connection:
            connection.execute(delete(box_audit))
            if changed:
                connection.execute(insert(box_audit), list(changed.values()))
        if not problems(store):
            missed.append(name)
    assert not missed


@pytest.mark.parametrize(
    "change", [{"number": 2}, {"hash": b"x" * 32}, {"last": 2}, {"last": 4}, {"number": 0, "last": 0}]
)
def test_a_changed_head_is_found(change: dict[str, object]) -> None:
    store = Store("sqlite://", durable=False)
    store.authorize(["RAP-0001"], 0)
    send(store, ENTRIES)
    with store.transaction() as connection:
        connection.execute(update(box_chains).values(change))
    assert problems(store)
