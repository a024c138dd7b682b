"""Audit records as a box sends them: a hash chain of audit events and log lines."""

from __future__ import annotations

from hashlib import sha256

from datacenter.store.store import Store
from tests.support.datacenter.store.batches import AT_MS
from wire.messages import Audit, AuditLink, Batch, Entry, LogLine, decode, encode, encode_batch

NOW = AT_MS + 1000
FILE = bytes(16)


def chain(count: int, *, lines: int = 0, at_ms: int = AT_MS) -> list[bytes]:
    """Return the encoded entries of a hash chain: `count` audit events, followed by `lines` log lines."""
    entries, previous = [], bytes(32)
    for number in range(1, count + lines + 1):
        content = b"type=LOGIN msg=audit(%d.000:7): uid=0\n" % number
        body = (
            Audit(at_ms, "alive", 0, number)
            if number <= count
            else LogLine(at_ms, "system", FILE, number, content)
        )
        entry = encode(Entry("", 0, body, AuditLink(number, previous)))
        previous = sha256(entry).digest()
        entries.append(entry)
    return entries


def send(
    store: Store,
    entries: list[bytes],
    first: int = 1,
    now_ms: int = NOW,
    epoch: int = 5,
    box: str = "RAP-0001",
) -> None:
    """Store entries with the sequence numbers from `first`, as if the box had sent them."""
    store.ingest(box, decode(Batch, encode_batch(epoch, list(enumerate(entries, first)))), now_ms)


def fill_box_audit(store: Store, now_ms: int) -> None:
    """Store records of three boxes: a complete chain, one with an old hole, and one with a hole and a wrong clock."""
    lines = [
        b"type=USER_LOGIN msg=audit(1762592400.113:%d): pid=2210 uid=0 auid=1000 ses=3"
        b' msg=\'op=login acct="operator" exe="/usr/sbin/sshd" addr=10.20.0.9 terminal=ssh res=success\'\n',
        b"type=SERVICE_START msg=audit(1762592460.004:%d): pid=1 uid=0 auid=4294967295 ses=4294967295"
        b' msg=\'unit=rap-box comm="systemd" exe="/usr/lib/systemd/systemd" res=success\'\n',
    ]
    entries, previous = [], bytes(32)
    for number in range(1, 81):
        at_ms = now_ms - 3_600_000 + number * 40_000
        body: Audit | LogLine = Audit(at_ms, "uplink-up", 0, number)
        if number % 4:
            body = LogLine(at_ms, "system", FILE, number, lines[number % 2] % number)
        entries.append(encode(Entry("", 0, body, AuditLink(number, previous))))
        previous = sha256(entries[-1]).digest()
    send(store, entries, now_ms=now_ms - 60_000)
    late = chain(6, at_ms=now_ms - 4 * 3_600_000)
    send(store, late[:2], now_ms=now_ms - 3 * 3_600_000, box="RAP-0002")
    send(store, late[4:5], first=5, now_ms=now_ms - 3 * 3_600_000, box="RAP-0002")
    send(store, late[5:], first=6, now_ms=now_ms - 3_600_000, box="RAP-0002")
    wrong = chain(4, at_ms=60_000)
    send(store, wrong[:1], now_ms=now_ms - 120_000, box="RAP-0003")
    send(store, wrong[2:], first=3, now_ms=now_ms - 90_000, box="RAP-0003")
