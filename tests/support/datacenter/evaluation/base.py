"""Six chemistry analyzers, each at a separate box, in three countries of two regions, and their statuses."""

from __future__ import annotations

from random import Random

from sqlalchemy import insert, update

from datacenter.base.counting import count_all
from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.history.archive import archive
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import boxes, sites
from wire.messages import Batch, Entry, ProfileInForce, Record, Status

MODEL, READING = "chemistry-analyzer", "vacuum-pa"
DAY = 20_000
SITES = {"berlin": ("DE", "europe"), "porto": ("PT", "europe"), "osaka": ("JP", "asia")}
BOXES = {f"RAP-{n:04}": (site, *SITES[site]) for n, site in enumerate(2 * list(SITES), 1)}
"""Site, country and region of each box."""


class Fleet:
    """The boxes, in a store that was empty. Each batch is stored a second after the previous one."""

    def __init__(self, store: Store, triggers: TriggerSet | None = None) -> None:
        self.store = store
        self.evaluator = Evaluator(store, triggers or TriggerSet([]))
        self.now_ms = (DAY + 10) * DAY_MS
        self._numbers = dict.fromkeys(BOXES, 0)
        self._sequences = dict.fromkeys(BOXES, 0)
        store.authorize(list(BOXES), 0)
        with store.transaction() as connection:
            for site, (country, region) in SITES.items():
                row = {"site": site, "name": site, "country": country, "region": region, "zone": "UTC"}
                connection.execute(insert(sites).values(row))
            for box, (site, _, _) in BOXES.items():
                connection.execute(update(boxes).where(boxes.c.serial == box).values(site=site))
        for box in BOXES:
            self._send(box, [Entry("", 0, ProfileInForce(0, self.instrument(box), MODEL, 1))])

    def instrument(self, box: str) -> str:
        return f"CHEM-{box[-4:]}"

    def divide(self, site: str, new: str, box: str) -> None:
        """Move a box to a new site in the country of `site`."""
        country, region = SITES[site]
        row = {"site": new, "name": new, "country": country, "region": region, "zone": "UTC"}
        with self.store.transaction() as connection:
            connection.execute(insert(sites).values(row))
            connection.execute(update(boxes).where(boxes.c.serial == box).values(site=new))

    def report(
        self, box: str, day: int, count: int, *, value: int = 50, random: Random | None = None
    ) -> None:
        """Store `count` statuses of day DAY + `day`, one a second, all with `value`.

        With `random`, the times are random, and so are the values, which are below 100.
        """
        entries = []
        for index in range(count):
            self._numbers[box] = number = self._numbers[box] + 1
            reading = random.randrange(100) if random else value
            at_ms = (DAY + day) * DAY_MS + (random.randrange(DAY_MS) if random else index * 1000)
            status = Status(number, at_ms, "running", 0, {READING: reading})
            entries.append(Entry(self.instrument(box), 1, status))
        self._send(box, entries)

    def evaluate(self) -> None:
        for box in BOXES:
            self.evaluator.advance(box, self.now_ms)

    def count_archived(self) -> int:
        """Evaluate and archive all statuses, count the changed days, and return the number of these days."""
        self.evaluate()
        archive(self.store, self.now_ms + 1)
        return count_all(self.store, self.now_ms)

    def _send(self, box: str, entries: list[Entry]) -> None:
        first = self._sequences[box]
        self.now_ms += 1000
        batch = Batch(1, first, [Record(1, entry) for entry in entries])
        assert self.store.ingest(box, batch, self.now_ms).stored == len(entries)
        self._sequences[box] += len(entries)
