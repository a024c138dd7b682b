"""A fleet of simulated boxes, which carry out the orders of rollouts or fail to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import insert, select, update

from datacenter.releases.folder import Release, ReleaseFolder, ReleaseSet
from datacenter.releases.orders import exchange_order, find_boxes_to_notify
from datacenter.releases.plan import RolloutPlan, encode_plan
from datacenter.releases.runner import advance_rollouts, change_state
from datacenter.releases.states import RolloutProgress
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, rollouts, sites, update_orders
from tests.support.imaging.releases import NOW, released
from wire.messages import Batch, Entry, UpdateStep, UpdateWord, decode, encode, encode_batch
from wire.release.messages import Kind, MetadataVersions, UpdateOrder, UpdateState

HOUR_MS = 3_600_000
START_MS = 1_790_000_000_000
EPOCH = 7


def release_set(*numbers: int) -> ReleaseSet:
    """Return releases with these numbers, without files."""
    releases = {number: Release(number, f"1.{number}.0", "system", ()) for number in numbers}
    return ReleaseSet({}, MetadataVersions(1, 2, 3, 4), {}, releases)


def served_releases(folder: Path, *numbers: int, now: datetime = NOW) -> ReleaseFolder:
    """Return a release folder, already read, with releases of these numbers whose metadata is signed at `now`."""
    repository, keys = released(folder)
    for number in numbers:
        file = folder / f"delta-{number}"
        file.write_bytes(b"delta of release %d" % number)
        repository.add(file, keys, now, {"release": f"1.{number}.0", "number": number})
    served = ReleaseFolder(repository.folder)
    served.refresh(now.timestamp())
    return served


@dataclass
class SimulatedBox:
    """A box: its running release, the order that it follows (0 if none), and all orders that it has received."""

    serial: str
    running: int = 1
    follows: int = 0
    sequence: int = 0
    orders: list[UpdateOrder] = field(default_factory=list)
    installed: list[int] = field(default_factory=list)


@dataclass
class SimulatedFleet:
    """Boxes with a store. `endings` has the step with which a box ends its order; None if it never reports one."""

    store: Store
    releases: ReleaseSet
    endings: Mapping[str, UpdateWord | None] = field(default_factory=dict)
    now_ms: int = START_MS
    boxes: dict[str, SimulatedBox] = field(default_factory=dict)

    def add(self, *serials: str) -> None:
        """Authorize boxes, and let each request its first order."""
        self.boxes |= {serial: SimulatedBox(serial) for serial in serials}
        self.store.authorize(list(self.boxes), self.now_ms)
        for serial in serials:
            self.ask(serial)

    def place(self, serial: str, site: str) -> None:
        """Put a box at a site."""
        with self.store.transaction() as connection:
            connection.execute(update(boxes).where(boxes.c.serial == serial).values(site=site))

    def add_site(self, site: str, country: str = "DE", region: str = "europe", zone: str = "UTC") -> None:
        """Add a site."""
        with self.store.transaction() as connection:
            values = {"site": site, "name": site, "country": country, "region": region, "zone": zone}
            connection.execute(insert(sites).values(values))

    def propose(self, plan: RolloutPlan, kind: Kind = "system") -> int:
        """Store a rollout that waits for its approval, and return its number."""
        values = {
            "release": plan.release,
            "name": f"1.{plan.release}.0",
            "kind": kind,
            "site": "",
            "country": "",
            "region": "",
            "plan": encode_plan(plan),
            "requester": "engineer",
            "purpose": "service",
            "created_at_ms": self.now_ms,
            "state": "proposed",
            "changed_at_ms": self.now_ms,
        }
        with self.store.transaction() as connection:
            statement = insert(rollouts).values(values).returning(rollouts.c.id)
            return int(connection.execute(statement).scalar_one())

    def start(self, plan: RolloutPlan, kind: Kind = "system") -> int:
        """Store a rollout and start it."""
        number = self.propose(plan, kind)
        with self.store.transaction() as connection:
            change_state(connection, number, "start", "", self.now_ms)
        return number

    def ask(self, serial: str) -> UpdateOrder:
        """Let a box report its state and request its order."""
        box = self.boxes[serial]
        state = UpdateState(box.running, order=box.follows)
        order = exchange_order(self.store, self.releases, serial, state, self.now_ms)
        assert order is not None, "the box is authorized"
        if order.order and order.order != box.follows:
            box.orders.append(order)
        box.follows = order.order
        return order

    def report(self, serial: str, *steps: UpdateStep) -> None:
        """Let a box report steps in one batch."""
        first = self.boxes[serial].sequence + 1
        self.boxes[serial].sequence += len(steps)
        entries = [(sequence, encode(Entry("", 0, step))) for sequence, step in enumerate(steps, first)]
        self.store.ingest(serial, decode(Batch, encode_batch(EPOCH, entries)), self.now_ms)

    def step(self, order: int, release: int, word: UpdateWord, reason: str = "") -> UpdateStep:
        """Return a step that is reported now."""
        return UpdateStep(self.now_ms, order, release, word, reason)

    def advance(self, hours: float = 1) -> None:
        """Advance the clock and the rollouts."""
        self.now_ms += round(hours * HOUR_MS)
        advance_rollouts(self.store, self.releases, self.now_ms)

    def work(self) -> None:
        """Let each box that is to be notified request its order, and each box with an order carry it out."""
        for serial in sorted(find_boxes_to_notify(self.store)):
            self.ask(serial)
        for serial, box in self.boxes.items():
            if box.follows:
                self._carry_out(serial, box, box.orders[-1])

    def _carry_out(self, serial: str, box: SimulatedBox, order: UpdateOrder) -> None:
        end = self.endings.get(serial, "committed")
        if end is None:
            return
        box.follows = 0
        box.installed.append(order.release)
        accepted = self.step(order.order, order.release, "accepted")
        reason = "" if end == "committed" else "unhealthy"
        self.report(serial, accepted, self.step(order.order, order.release, end, reason))
        if end == "committed":
            box.running = order.release

    def state(self, rollout: int) -> tuple[str, str]:
        """Return the state of a rollout and its reason."""
        query = select(rollouts.c.state, rollouts.c.reason).where(rollouts.c.id == rollout)
        ((state, reason),) = self.store.read(query)
        return state, reason

    def counts(self, rollout: int) -> Counter[str]:
        """Return the number of boxes of a rollout by state."""
        return Counter(state for state in self.states(rollout).values())

    def states(self, rollout: int) -> dict[str, str]:
        """Return the state of each box of a rollout."""
        c = update_orders.c
        query = select(c.box, c.ordered_at_ms, c.step, c.ending).where(c.rollout == rollout)
        return {
            box: RolloutProgress(ordered_at_ms is not None, step, ending).state
            for box, ordered_at_ms, step, ending in self.store.read(query)
        }
