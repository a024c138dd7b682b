"""Traces of random operations on a spool: each operation, its result, the status, and a checksum of all files.

    python -m tests.support.agents.spool.traces

regenerates the golden files. The stateful tests check that nothing is lost. These check that equal operations leave
the same bytes on the disk and the same counts: a change of the format, of the order of writes or of the segments that
are reclaimed is a difference to be reviewed. A change of the format needs a new version (`agents/spool/foreign.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final
from unittest.mock import patch

from crc32c import crc32c

from agents.spool import Priority, Spool, SpoolError, SpoolGap, SpoolLimits
from agents.spool.waiting import pinned
from hal.disk import DiskError
from hal.emul.disk import EmulDisk
from tests.support.agents.spool.model import BY_SUMMARIES, LIMITS, encode_gap
from tests.support.paths import FIXTURES

FOLDER: Final = FIXTURES / "spool"
SIZES: Final = (0, 8, 60, 250, 500, 2000)
SMALL: Final = replace(LIMITS, spool_bytes_max=3 * 16 * 1024, gap_ranges_max=2, lost_ranges_max=3)


@dataclass(frozen=True)
class Walk:
    """The parameters of one trace, whose golden file begins with `about`."""

    about: str
    seed: int
    limits: SpoolLimits = LIMITS
    steps: int = 120
    alerts: float = 0.3
    """Fraction of records that are alerts or audit records."""
    trouble: float = 0.2
    """Fraction of operations that are failures, crashes or power cuts."""
    damage: float = 0.0
    """Fraction of operations that damage the disk."""
    delivery: float = 0.35
    """Fraction of operations that read and acknowledge."""
    resident: int = 12
    """Maximum number of positions of alerts and audit records in memory."""


WALKS: Final = {
    "routine": Walk(
        "Routine records, more than there is space for.", 1, alerts=0.02, trouble=0.0, delivery=0.1
    ),
    "delivered": Walk("Records that are delivered as they come.", 2, trouble=0.02, delivery=0.6),
    "alerts": Walk(
        "Alerts and audit records, until the spool is full.", 3, alerts=0.8, trouble=0.0, delivery=0.1
    ),
    "crashes": Walk("Crashes and power cuts.", 4, trouble=0.4),
    "summaries": Walk("A spool that is opened from summaries.", 5, BY_SUMMARIES, trouble=0.3),
    "damage": Walk("Damaged sectors.", 6, damage=0.15),
    "damage-summaries": Walk(
        "Damaged sectors of a spool that is opened from summaries.", 7, BY_SUMMARIES, damage=0.15
    ),
    "small": Walk("Three segments, few ranges in a gap record, damaged sectors.", 8, SMALL, damage=0.1),
    "small-alerts": Walk("Three segments of alerts and audit records.", 9, SMALL, alerts=0.9, delivery=0.3),
    "much-damage": Walk("Many damaged sectors between crashes.", 10, trouble=0.3, damage=0.4, delivery=0.2),
    "in-memory": Walk("All positions of alerts fit in memory.", 11, alerts=0.6, damage=0.05, resident=10_000),
}


class Walker:
    """Runs random operations on one spool."""

    def __init__(self, walk: Walk) -> None:
        self.walk, self.random = walk, Random(walk.seed)
        self.disk = EmulDisk(1 << 30, Random(walk.seed + 100))
        self.epochs = Random(walk.seed + 200)
        self.lines: list[str] = []
        self.created = 0
        self.open("opened")

    # -- opening

    def open(self, event: str) -> None:
        """Open the spool and record the result."""
        limits = self.walk.limits
        try:
            self.spool = Spool.open(
                self.disk, limits, random=self.epochs, encode_gap=encode_gap, snapshot=self._snapshot
            )
        except SpoolError as error:
            self.lines.append(f"{event}: {error.kind}")
            self.disk = self.disk.backend.reboot()
            self.open("opened again")
            return
        recovery = self.spool.recovery
        closed = "closed" if recovery.was_closed else "not closed"
        records = list(recovery.records())
        uncertain = [record.seq for record in records if not record.certain]
        since = f"{len(records)} records since snapshot {recovery.snapshot!r}"
        if records:
            payloads = crc32c(b"".join(record.payload for record in records))
            since += f" ({records[0].seq}-{records[-1].seq}, {payloads:08x})"
        self.lines.append(
            f"{event}: {closed}, {recovery.waiting_records} waiting, {since}{self._gaps(recovery.gaps)}"
        )
        if uncertain:
            self.lines.append(f"  uncertain: {uncertain}")

    def _snapshot(self) -> bytes:
        return b"%d" % self.created

    def reboot(self, event: str) -> None:
        """Cut the power and open the spool."""
        backend = self.disk.backend
        self.disk = backend.cut_power() if backend.has_power else backend.reboot()
        self.open(event)

    # -- operations

    def append(self) -> None:
        walk, random = self.walk, self.random
        count = random.randrange(1, 9)
        priorities = [
            random.choice((Priority.ALERT, Priority.AUDIT))
            if random.random() < walk.alerts
            else Priority.ROUTINE
            for _ in range(count)
        ]
        sizes = [random.choice(SIZES) for _ in priorities]
        while sum(sizes) > walk.limits.group_bytes_max:
            sizes[sizes.index(max(sizes))] = 60
        payloads = []
        for size in sizes:
            self.created += 1
            payloads.append((b"%d:" % self.created).ljust(size, b"x")[:size] if size else b"")
        letters = "".join(priority.name[1] for priority in priorities).lower()
        numbers = self.spool.append(priorities, payloads)
        self.lines.append(f"append {letters} {sum(sizes)} bytes: {numbers.start}-{numbers.stop - 1}")

    def deliver(self) -> None:
        random = self.random
        priority = random.choice(list(Priority))
        after, records = 0, []
        for _ in range(random.randrange(1, 4)):
            batch = self.spool.read(
                priority, random.randrange(1, 30), random.choice((100, 1000, 10_000)), after
            )
            records += batch
            after = batch[-1][0] if batch else after
        seqs = [seq for seq, _ in records]
        payloads = crc32c(b"".join(payload for _, payload in records))
        summary = f"{len(seqs)}: {seqs[0]}-{seqs[-1]} {payloads:08x}" if seqs else "none"
        self.lines.append(f"read {priority.name.lower()}: {summary}")
        if seqs and random.random() < 0.7:
            through = random.choice((seqs[-1], seqs[-1], random.choice(seqs)))
            self.spool.ack(priority, through)
            self.lines.append(f"acknowledge {priority.name.lower()} through {through}")
        elif seqs and random.random() < 0.3:
            seq = random.choice(seqs)
            self.spool.discard(priority, seq)
            self.lines.append(f"discard {priority.name.lower()} {seq}")

    def verify(self) -> None:
        self.lines.append(f"verify: {self.spool.verify_next()}")

    def make_trouble(self) -> None:
        backend = self.disk.backend
        kind = self.random.choice(
            ("power", "kill", "close", "close", "cut", "flush", "write", "fill", "room", "verify")
        )
        if kind == "power":
            self.reboot("power cut")
        elif kind == "kill":
            self.open("killed")
        elif kind == "close":
            self.spool.close()
            self.open("closed and opened") if backend.has_power else self.reboot("closed without power")
        elif kind == "cut":
            operation = self.random.randrange(1, 7)
            backend.cut_power_at(operation)
            self.lines.append(f"the power will be cut at disk operation {operation}")
        elif kind == "flush":
            backend.fail_next_flush(self.random.randrange(1, 3))
            self.lines.append("flushes will fail")
        elif kind == "write":
            backend.fail_next_write()
            self.lines.append("a write will fail")
        elif kind == "fill":
            backend.fill()
            self.lines.append("the disk is full")
        elif kind == "room":
            backend.set_capacity(1 << 30)
            self.lines.append("the disk has space")
        else:
            self.verify()

    def damage(self) -> None:
        random, names = self.random, self.disk.names()
        if not names:
            return
        name = random.choice(names)
        start = random.randrange(self.disk.size(name)) // 512 * 512
        kind = random.choice(("bit", "bit", "sectors", "unreadable", "reopen"))
        if kind == "unreadable":
            self.disk.backend.make_unreadable(name, start)
        elif kind != "reopen":
            end = min(start + (512 if kind == "bit" else 3 * 512), self.disk.size(name))
            for offset in range(start, end, 512):
                self.disk.backend.flip_bits(name, offset, bits=1 if kind == "bit" else 256)
        self.lines.append(f"damage: {kind} {name} {start}")
        if kind == "reopen" or random.random() < 0.5:
            self.open("killed")

    # -- the walk

    def step(self) -> None:
        """Run one operation."""
        walk, chance = self.walk, self.random.random()
        operations: list[tuple[float, Callable[[], None]]] = [
            (walk.delivery, self.deliver),
            (walk.trouble, self.make_trouble),
            (walk.damage, self.damage),
        ]
        operation = self.append
        for share, chosen in reversed(operations):
            if chance < share:
                operation = chosen
                break
            chance -= share
        try:
            operation()
        except (SpoolError, DiskError) as error:
            self.lines.append(f"{operation.__name__}: {error.kind}")
        if not self.disk.backend.has_power:
            self.reboot("without power")
        self.lines.append(f"  {self.status_line()}")

    def status_line(self) -> str:
        status = self.spool.status()
        waiting = "+".join(map(str, status.records.values())), "+".join(map(str, status.bytes.values()))
        return (
            f"waiting {waiting[0]} records {waiting[1]} bytes, next {status.next_seq}, {status.segments} segments, "
            f"{status.disk_bytes} bytes, {status.live_bytes} live, gaps {status.gaps_reported} reported "
            f"{status.gaps_pending} pending, files {self._checksum():08x}{self._gaps(self.spool.pending_gaps())}"
        )

    def _checksum(self) -> int:
        checksum = 0
        for name in sorted(self.disk.names()):
            checksum = crc32c(name.encode(), checksum)
            for offset in range(0, self.disk.size(name), 512):
                try:
                    checksum = crc32c(self.disk.read(name, offset, 512), checksum)
                except DiskError:
                    checksum = crc32c(b"unreadable", checksum)
        return checksum

    @staticmethod
    def _gaps(gaps: tuple[SpoolGap, ...]) -> str:
        return "".join(
            f"; {gap.reason} {gap.records}: " + " ".join(f"{first}-{last}" for first, last in gap.ranges)
            for gap in gaps
        )


def golden(name: str) -> str:
    """Return the content of the golden file of a walk."""
    walk = WALKS[name]
    with patch.object(pinned, "RESIDENT_RECORDS_MAX", walk.resident):
        walker = Walker(walk)
        for _ in range(walk.steps):
            walker.step()
        walker.spool.close()
        walker.reboot("closed at the end")
        walker.lines.append(f"  {walker.status_line()}")
    return "\n".join([walk.about, "", *walker.lines, ""])


def main() -> None:
    """Write the golden files of all walks."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in WALKS:
        (FOLDER / f"{name}.txt").write_text(golden(name), "utf-8")


if __name__ == "__main__":
    main()
