"""Records of one instrument that arrive in random order, and the alerts that they raise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from random import Random
from typing import TypeAlias

from sqlalchemy import select

from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts
from tests.support.datacenter.evaluation.triggers import MODEL, trigger
from tests.support.datacenter.store.batches import AT_MS
from wire.messages import (
    Alert,
    Batch,
    BoxReport,
    Entry,
    Gap,
    InstrumentReport,
    ProfileInForce,
    Status,
    decode,
    encode,
    encode_batch,
)

BOX, SERIAL = "RAP-0001", "CHEM-0001"
TRIGGERS = [
    trigger("water-conductivity-ns > 50 and state is running", name="water"),
    trigger("ewma(lamp-intensity-pct, 4) < 70", until="ewma(lamp-intensity-pct, 4) > 75", name="lamp"),
    trigger("count(L0100, 1h) >= 2", name="twice"),
    trigger("water-conductivity-ns > 20", lasts="30min", name="lasting"),
]
STORED_MS = AT_MS + 10**8
Verdict: TypeAlias = list[tuple[str, int, int, int | None, int | None]]


def status(number: int, water: int = 0, lamp: int = 100) -> Status:
    readings = {"water-conductivity-ns": water, "lamp-intensity-pct": lamp}
    return Status(number, AT_MS + number * 60_000, "running", 0, readings)


def random_reports(seed: int, count: int = 120) -> list[InstrumentReport]:
    random = Random(seed)
    lamp, water = 100, 0
    reports: list[InstrumentReport] = []
    for number in range(1, count + 1):
        water = random.choice([0, 30, 60]) if random.random() < 0.05 else water
        lamp = max(0, min(100, lamp + random.choice([-9, -3, 0, 3, 6])))
        if random.random() < 0.1:
            reports.append(Alert(number, AT_MS + number * 60_000, "L0100", "lamp", "warning"))
        else:
            reports.append(status(number, water, lamp))
    return reports


def batch(records: Sequence[tuple[int, InstrumentReport | BoxReport]], epoch: int = 1) -> Batch:
    entries = [
        (sequence, encode(Entry("" if isinstance(body, BoxReport) else SERIAL, 1, body)))
        for sequence, body in sorted(records, key=lambda pair: pair[0])
    ]
    return decode(Batch, encode_batch(epoch, entries))


def profile(model: str = MODEL) -> ProfileInForce:
    return ProfileInForce(AT_MS, SERIAL, model, 1)


def numbered(
    *bodies: InstrumentReport | BoxReport, first: int = 1
) -> list[tuple[int, InstrumentReport | BoxReport]]:
    return list(enumerate(bodies, first))


def verdict(store: Store) -> Verdict:
    """Return the stored alerts, each as trigger, report number and time of its beginning, and of its end."""
    c = alerts.c
    query = select(c.trigger, c.number, c.began_at_ms, c.end_number, c.ended_at_ms)
    return [tuple(row) for row in store.read(query.order_by(c.number, c.trigger))]


@cache
def trigger_set() -> TriggerSet:
    """Return TRIGGERS as a set, compiled once."""
    return TriggerSet(TRIGGERS)


def evaluator(store: Store) -> Evaluator:
    return Evaluator(store, trigger_set())


def expected(reports: Sequence[InstrumentReport], url: str = "sqlite://") -> Verdict:
    """Return the alerts that are raised if all records arrive at once."""
    store = Store(url)
    store.authorize([BOX], 0)
    store.ingest(BOX, batch(numbered(profile(), *reports)), STORED_MS)
    evaluator(store).advance(BOX, 5)
    alerts_at_once = verdict(store)
    store.close()
    return alerts_at_once


def after_random_arrival(seed: int) -> tuple[Verdict, Verdict]:
    """Return the alerts after arrival in random order, and those after arrival of all records at once."""
    store = Store("sqlite://")
    store.authorize([BOX], 0)
    reports = arrive(store, seed)
    arrived = verdict(store)
    store.close()
    return arrived, expected(reports)


def arrive(store: Store, seed: int) -> list[InstrumentReport]:
    """Store and evaluate random reports in a random order of arrival; return those that were not lost.

    Some batches are repeated, and all are shuffled; alerts are also sent ahead in batches of their own. A gap record
    names the lost records. Each evaluation uses a new evaluator, as after a restart; there may be none or several
    after a batch.
    """
    random = Random(seed)
    reports = random_reports(seed)
    records = numbered(profile(), *reports)
    lost = sorted(random.sample(range(2, len(records)), random.choice([0, 0, 3])))
    kept = [pair for pair in records if pair[0] not in lost]
    if lost:
        gap = Gap(AT_MS, "corrupt", len(lost), tuple((sequence, sequence) for sequence in lost))
        kept.append((len(records) + 1, gap))
    urgent = [pair for pair in kept if not isinstance(pair[1], Status)]
    size = random.randint(5, 20)
    batches = [kept[first : first + size] for first in range(0, len(kept), size)]
    batches += [urgent[first : first + 2] for first in range(0, len(urgent), 2)]
    batches += random.choices(batches, k=6)
    random.shuffle(batches)
    for now, one in enumerate(batches):
        store.ingest(BOX, batch(one), STORED_MS + now)
        for _ in range(random.randint(0, 2)):
            evaluator(store).advance(BOX, STORED_MS + now)
    evaluator(store).advance(BOX, STORED_MS + len(batches))
    return [body for _, body in kept if isinstance(body, InstrumentReport)]
