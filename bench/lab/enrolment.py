"""Bytes on the uplink for enrolment and renewal, and their time: `python -m bench.lab.enrolment [--json]`.

The bytes of all IP packets on the simulated uplink are counted, with all layers: EST, HTTP, TLS, and TCP with its
acknowledgements. Keys are on P-256, as in the field. The bytes that the box sends without enrolment are subtracted.
The request after an expiry was approved before; then the box has to make a separate connection for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import insert

from agents.enrolment.records import NEXT, USED, IdentityRecord, IdentityRecords
from bench.figures import Figure, figure, run
from datacenter.store.tables.schema import enrolments
from sim.lab.labfile import parse_lab
from sim.units import SECOND_NS
from sim.worlds.shared.site.addresses import BOX_NAME, BOX_SERIAL
from sim.worlds.shared.site.certificates import LabKeys
from sim.worlds.virtual.world import EPOCH_NS, VirtualWorld
from wire.pki.hierarchy import make_key
from wire.pki.request import key_hash

LAB = """
[lab]
name = "enrolment"
duration = "1h"
[box]
board = "rap-4"
enrolment = "{enrolment}"
[uplink]
rate = "128kbit"
delay = "40ms"
{proxy}
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "1h"
"""
BASIC: Final = 'proxy = { kind = "http", auth = "basic" }'
PROXIES: Final = {"": "", " through HTTP": BASIC, " through SOCKS 5": 'proxy = { kind = "socks5" }'}
SECONDS = 60
"""The first minute; later traffic does not belong to the enrolment."""
STEP_NS = SECOND_NS // 50
DAY_SECONDS: Final = 86_400
FRESH_DAYS, DUE_DAYS, EXPIRED_DAYS = 1, 61, 100
"""Ages of a certificate of 90 days."""


def figures() -> list[Figure]:
    """Return bytes and seconds of an enrolment, a renewal, and a renewal after an expiry, for each kind of proxy."""
    measured = []
    for suffix, proxy in PROXIES.items():
        measured += _enrolment(suffix, proxy)
        for name, days in (("renewal", DUE_DAYS), ("renewal after an expiry", EXPIRED_DAYS)):
            measured += figures_of_renewal(f"{name}{suffix}", proxy, days)
    return measured


def _enrolment(suffix: str, proxy: str) -> list[Figure]:
    with _world("none", proxy) as world:
        world.run_until(SECONDS * SECOND_NS)
        usual = _spent(world)
    with _world("flashed", proxy) as world:
        records = IdentityRecords(world.box.disk)
        requested_ns = _run_until(world, lambda: records.load(NEXT) is not None)
        _run_until(world, lambda: _has_certificate(records.load(NEXT)))
        issued = _spent(world) - usual
        connections = world.box.traffic().connections
        _run_until(world, lambda: world.box.traffic().connections > connections)
        accepted = _spent(world) - usual
        used_ns = _run_until(world, lambda: records.load(USED) is not None)
        world.run_until(SECONDS * SECOND_NS)
        total = _spent(world) - usual
    return [
        figure(f"request and certificate{suffix}", "B", issued),
        figure(f"TLS handshake with the new certificate{suffix}", "B", accepted - issued),
        figure(f"proof, first batches and audit records{suffix}", "B", total - accepted),
        *_totals(f"enrolment{suffix}", total, used_ns - requested_ns),
    ]


def figures_of_renewal(name: str, proxy: str, days: int) -> list[Figure]:
    """Return bytes and seconds of the renewal of a certificate that is `days` days old."""
    with _world("expired", proxy, FRESH_DAYS) as world:
        world.run_until(SECONDS * SECOND_NS)
        usual = _spent(world)
    with _world("expired", proxy, days) as world:
        records = IdentityRecords(world.box.disk)
        before = records.load(USED)
        requested_ns = _run_until(world, lambda: records.load(NEXT) is not None)
        used_ns = _run_until(world, lambda: records.load(USED) != before)
        world.run_until(SECONDS * SECOND_NS)
        return _totals(name, _spent(world) - usual, used_ns - requested_ns)


def _totals(name: str, bytes_both: int, duration_ns: int) -> list[Figure]:
    return [
        figure(f"{name}, both directions", "B", bytes_both, "<= 6000"),
        figure(f"{name}, from the key to the use", "s", duration_ns / 1e9, "<= 3"),
    ]


@contextmanager
def _world(enrolment: str, proxy: str, days: int = 0) -> Iterator[VirtualWorld]:
    """Yield a world whose box has a certificate of the data center that is `days` days old, if this is not 0."""
    lab = parse_lab(LAB.format(enrolment=enrolment, proxy=proxy), Path("enrolment.toml"))
    keys = LabKeys(make_key(), make_key(), make_key())
    with VirtualWorld(lab, keys=keys) as world:
        if days:
            _own_certificate(world, days)
            approved = {"reason": "expired", "state": "approved", "asked_at_ms": 0, "seen_at_ms": 0}
            key = key_hash(keys.requested.public_key())
            with world.datacenter.store.transaction() as connection:
                connection.execute(insert(enrolments).values(box=BOX_SERIAL, key=key, **approved))
        yield world


def _own_certificate(world: VirtualWorld, days: int) -> None:
    """Store a certificate of this age on the box's disk, in place of one issued by the data center."""
    authority, key = world.datacenter.authority, make_key()
    assert authority is not None
    issued_s = EPOCH_NS / 1e9 - days * DAY_SECONDS
    certificate = authority.certify(BOX_SERIAL, key.public_key(), issued_s, (BOX_NAME,))
    record = IdentityRecord.of_key(key)
    records = IdentityRecords(world.box.disk)
    records.save_next(IdentityRecord(record.key, (certificate.public_bytes(Encoding.DER),)))
    records.use_next()


def _spent(world: VirtualWorld) -> int:
    return world.uplink.forward.bytes + world.uplink.backward.bytes


def _has_certificate(record: IdentityRecord | None) -> bool:
    return record is not None and bool(record.chain)


def _run_until(world: VirtualWorld, holds: Callable[[], bool]) -> int:
    """Run until a condition holds; return the lab's time in ns."""
    while not holds():
        assert world.env.now < SECONDS * SECOND_NS, "the condition is not met in time"
        world.run_until(world.env.now + STEP_NS)
    return world.env.now


if __name__ == "__main__":
    run(figures, __doc__)
