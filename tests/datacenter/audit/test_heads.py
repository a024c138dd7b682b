"""Countersigned heads at the data center reveal that records were removed or replaced."""

from __future__ import annotations

from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from msgspec.structs import replace
from sqlalchemy import delete, update

from datacenter.audit.boxes import box_chain_problems
from datacenter.audit.heads import HeadRefused, answer_query
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_audit, box_chains
from tests.support.datacenter.store.box_audit import chain, send
from wire.audit_head import (
    HEAD_BYTES_MAX,
    CountersignedHead,
    HeadQuery,
    KnownHead,
    countersign,
    head_text,
    is_countersigned,
    parse_head_text,
)
from wire.messages import encode

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = KEY.public_key()
BOX = "RAP-0001"
ENTRIES = chain(6)
NOW_MS = 1_900_000_000_000


def head(number: int, epoch: int = 5) -> KnownHead:
    return KnownHead(epoch, number, sha256(ENTRIES[number - 1]).digest())


def ask(
    store: Store, number: int, newest: CountersignedHead | None = None
) -> CountersignedHead | HeadRefused | None:
    return answer_query(store, KEY, BOX, HeadQuery(head(number), newest), NOW_MS)


def test_a_head_is_countersigned_once_its_records_have_arrived(store: Store) -> None:
    assert ask(store, 2) is None, "nothing has arrived"
    send(store, ENTRIES[:2])
    send(store, ENTRIES[3:], first=4)
    assert ask(store, 4) is None, "record 3 may still arrive"
    signed = ask(store, 2)
    assert isinstance(signed, CountersignedHead)
    assert is_countersigned(signed, BOX, [PUBLIC])
    assert len(encode(signed)) <= HEAD_BYTES_MAX
    send(store, ENTRIES[2:3], first=3)
    later = ask(store, 6, signed)
    assert isinstance(later, CountersignedHead) and later.head == head(6)
    assert isinstance(ask(store, 6, later), CountersignedHead), "the box asks again if the response was lost"
    assert not list(box_chain_problems(store, "", PUBLIC))


def test_a_signature_is_for_one_box_one_record_one_time_and_this_purpose() -> None:
    signed = countersign(BOX, head(3), NOW_MS, KEY)
    other = ec.generate_private_key(ec.SECP256R1())
    assert is_countersigned(signed, BOX, [other.public_key(), PUBLIC])
    assert not is_countersigned(signed, BOX, [other.public_key()])
    assert not is_countersigned(signed, "RAP-0002", [PUBLIC])
    for changed in (
        CountersignedHead("RAP-0002", signed.head, NOW_MS, signed.signature),
        CountersignedHead(BOX, head(2), NOW_MS, signed.signature),
        CountersignedHead(BOX, head(3, epoch=6), NOW_MS, signed.signature),
        CountersignedHead(BOX, signed.head, NOW_MS + 1, signed.signature),
        CountersignedHead(BOX, signed.head, NOW_MS, signed.signature[:-1]),
        CountersignedHead(BOX, signed.head, NOW_MS),
    ):
        assert not is_countersigned(changed, changed.box, [PUBLIC])
    unmarked = encode(CountersignedHead(BOX, head(3), NOW_MS))
    bare = CountersignedHead(BOX, head(3), NOW_MS, KEY.sign(unmarked, ec.ECDSA(SHA256())))
    assert not is_countersigned(bare, BOX, [PUBLIC]), "a signature of another kind of message"


def forge(store: Store, kept: int, **chain_values: object) -> None:
    """Remove the records after number `kept` and all traces of them, as an attacker who controls the database."""
    with store.transaction() as connection:
        connection.execute(delete(box_audit).where(box_audit.c.number > kept))
        digest = head(kept).digest
        values = {"number": kept, "last": kept, "hash": digest, **chain_values}
        connection.execute(update(box_chains).values(values))


FORGOTTEN = {"signed_number": 0, "signed": None}


@pytest.fixture
def signed(store: Store) -> CountersignedHead:
    """The countersigned head at record 5 of the six records in the store."""
    send(store, ENTRIES)
    reply = ask(store, 5)
    assert isinstance(reply, CountersignedHead)
    return reply


@pytest.mark.parametrize("kept", range(1, 5))
def test_a_tail_that_was_cut_off_behind_its_countersigned_head_is_found(
    store: Store, signed: CountersignedHead, kept: int
) -> None:
    forge(store, kept)
    assert f"{BOX}: chain 5: the countersigned head, record 5, is missing or was replaced" in problems(store)
    forge(store, kept, **FORGOTTEN)
    assert not problems(store), "the database alone has no trace"
    shown = parse_head_text(head_text(BOX, signed.head))
    assert problems(store, shown) == [
        f"{BOX}: chain 5: record 5, of which the box has a countersigned head, is missing or was replaced"
    ]
    refused = ask(store, 6, signed)
    assert isinstance(refused, HeadRefused)
    assert refused == ask(store, 6, signed)
    assert problems(store) == [f"{BOX}: chain 5: found at arrival: {refused.problem}"]


def test_replaced_records_are_found(store: Store, signed: CountersignedHead) -> None:
    other = chain(3, lines=3)
    with store.transaction() as connection:
        connection.execute(delete(box_audit))
        connection.execute(update(box_chains).values(number=0, hash=bytes(32), last=0, **FORGOTTEN))
    send(store, other)
    assert not problems(store)
    assert isinstance(ask(store, 6, signed), HeadRefused)
    assert isinstance(ask(store, 6), HeadRefused), "a box that has lost its countersigned head"


def test_a_whole_chain_that_was_removed_is_found(store: Store, signed: CountersignedHead) -> None:
    with store.transaction() as connection:
        connection.execute(delete(box_audit))
        connection.execute(delete(box_chains))
    assert not problems(store)
    assert isinstance(ask(store, 6, signed), HeadRefused)
    assert problems(store)


def test_a_box_whose_tail_was_cut_off_with_its_countersigned_head_is_found(
    store: Store, signed: CountersignedHead
) -> None:
    refused = ask(store, 4)
    assert isinstance(refused, HeadRefused)
    assert refused.problem == "the box has 4 records, but 5 were countersigned: its tail was cut off"
    assert problems(store)


@pytest.mark.parametrize(
    "change", ["signature", "number", "digest", "at_ms", "unreadable", "number of the row"]
)
def test_a_changed_countersigned_head_is_found(store: Store, signed: CountersignedHead, change: str) -> None:
    changed = {
        "signature": replace(signed, signature=signed.signature[::-1]),
        "number": replace(signed, head=head(4)),
        "digest": replace(signed, head=KnownHead(5, 5, bytes(32))),
        "at_ms": replace(signed, at_ms=1),
    }.get(change, signed)
    values: dict[str, object] = {"signed": b"" if change == "unreadable" else encode(changed)}
    if change == "number of the row":
        values["signed_number"] = 4
    with store.transaction() as connection:
        connection.execute(update(box_chains).values(values))
    assert problems(store)


def test_heads_signed_with_an_earlier_key_prove_nothing_and_disturb_nothing(store: Store) -> None:
    send(store, ENTRIES)
    earlier = countersign(BOX, KnownHead(5, 9, bytes(32)), NOW_MS, ec.generate_private_key(ec.SECP256R1()))
    assert isinstance(ask(store, 6, earlier), CountersignedHead)
    assert not problems(store)


@pytest.mark.parametrize(
    "text", ["", "RAP-1/5/3", "RAP-1/5/0:" + "0" * 64, "RAP-1/5/3:" + "0" * 63, "5/3:" + "0" * 64]
)
def test_a_wrong_head_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write it as BOX/CHAIN/NUMBER:HASH"):
        parse_head_text(text)


def problems(store: Store, *known: tuple[str, KnownHead]) -> list[str]:
    return list(box_chain_problems(store, "", PUBLIC, known))
