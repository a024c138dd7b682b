"""Audit records are forwarded to rsyslogd, also after it was not running."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from datacenter.audit.siem import deliver, mark_delivered, next_records, siem_message
from datacenter.store.store import Store
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.datacenter.rsyslog import free_port, needs_rsyslog, rsyslog
from tests.support.datacenter.store.batches import AT_MS
from wire.messages import Audit, AuditLink, Batch, Entry, decode, encode, encode_batch
from wire.tls.context import client_context

RECORDS = 1_200


def fill(store: Store) -> None:
    """Store a hash chain of RECORDS audit events of a box."""
    entries, previous = [], bytes(32)
    for number in range(1, RECORDS + 1):
        entry = encode(Entry("", 0, Audit(AT_MS, "alive", 0, number), AuditLink(number, previous)))
        previous = sha256(entry).digest()
        entries.append(entry)
    for first in range(0, RECORDS, 1000):
        part = entries[first : first + 1000]
        store.ingest("RAP-0001", decode(Batch, encode_batch(5, list(enumerate(part, first + 1)))), AT_MS)


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store("sqlite://", durable=False)
    store.authorize(["RAP-0001"], 0)
    fill(store)
    yield store
    store.close()


def test_a_message_has_the_form_of_rfc_5424(store: Store) -> None:
    record = next_records(store)[0]
    length, message = siem_message(record).split(b" ", 1)
    assert int(length) == len(message)
    assert re.fullmatch(
        rb'<110>1 2026-09-21T\d\d:\d\d:\d\d\.\d{3}Z RAP-0001 rap-audit - audit \[rap@32473 id="RAP-0001/5/1"'
        rb' hash="[0-9a-f]{64}" kind="audit" arrived="[^"]+"\]\[timeQuality tzKnown="1" isSynced="1"\]'
        rb" \xef\xbb\xbfalive value=1",
        message,
    )


@needs_rsyslog
@pytest.mark.slow("rsyslogd is started twice")
def test_rsyslogd_receives_each_record_although_it_was_stopped(
    store: Store, tmp_path: Path, pki: Hierarchy
) -> None:
    port = free_port()

    def forward() -> None:
        tls = client_context(pki.box)
        records = next_records(store)
        asyncio.run(deliver("127.0.0.1", port, tls, b"".join(map(siem_message, records))))
        mark_delivered(store, records)

    with pytest.raises(OSError):
        forward()
    assert next_records(store)[0].number == 1, "the cursor did not move"
    with rsyslog(tmp_path, port, pki.datacenter):
        forward()
    with pytest.raises(OSError):
        forward()
    with rsyslog(tmp_path, port, pki.datacenter):
        while next_records(store):
            forward()
    received = (tmp_path / "received").read_text()
    ids = re.findall(r'id="RAP-0001/5/(\d+)"', received)
    assert [int(each) for each in ids] == list(range(1, RECORDS + 1))
