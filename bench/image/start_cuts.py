"""Power cuts during a first start, each followed by a start: `python -m bench.image.start_cuts [--json]`. Needs root.

A box's image is flashed by `rap flash write` and started in QEMU for the first time, until reports are stored and
others wait on the box. All writes and flushes of its disk are recorded. The same disk, on which a box has run, is
flashed a second time with the same image for another box, and that start is recorded, too.

The cuts are spread evenly over the flushes of both starts. A third of them are during the flush, a third during a
write between it and the previous flush, and a third while a superblock of ext4 is written, of which the disk then has
one of two sectors. All other sectors that were not flushed are on the medium or not, at random. The box is started
again from each of these disks, two at a time. It must deliver a new report and all reports that it had acknowledged;
after that the disk must have no errors, and no data of the former box.

Before that, each superblock that both starts write is torn in both ways, and must be repaired without a start.

A run takes an hour or more. Results are kept in `build/start-cuts`, so that an aborted run can continue.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from bench.figures import Figure, figure, run
from imaging.flash.identifiers import SUPERBLOCK_OFFSET
from imaging.rpm.contents import RECIPE
from tests.support.imaging.flash.images import loop_device
from tests.support.imaging.flash.torn_superblocks import UnflushedSuperblock
from tests.support.imaging.signed_image import SignedImage, signed_image
from tests.support.imaging.starts.recorded_start import (
    Life,
    RecordedStart,
    flash,
    load,
    new_disk,
    record_start,
)
from tests.support.imaging.starts.start_after_cut import check_start
from tests.support.paths import ROOT

CUTS_OF_A_LIFE: Final = 30
AT_A_TIME: Final = 2
KEPT: Final = ROOT / "build/start-cuts"
REPAIR: Final = RECIPE / "root/usr/libexec/rap/repair-superblock"


def figures() -> list[Figure]:
    """Return all figures, and print each cut that is followed by a problem to standard error."""
    image = signed_image()
    folder = KEPT / image.image.parent.name
    first, second = _recorded(image, folder)
    results = _results(folder)
    torn = [unrepaired for start in (first, second) for unrepaired in _torn(start, folder)]
    pairs = zip(cuts_of(first), cuts_of(second), strict=True)
    tasks = [
        task
        for cut_first, cut_second in pairs
        for task in ((first, None, cut_first), (second, first.life, cut_second))
    ]
    left = [task for task in tasks if _name(task[0], task[2]) not in results]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for name, problems in pool.map(lambda task: _try(folder, *task), left):
            results[name] = problems
            (folder / "results.jsonl").open("a").write(json.dumps([name, problems]) + "\n")
            print(name, *(problems or ["started"]), sep="\n  ", file=sys.stderr, flush=True)
    wrong = sum(bool(problems) for problems in results.values())
    shutil.rmtree(folder)
    return [
        figure("flushes of a first start", "", len(first.flushes)),
        figure("power cuts during a first start, each followed by a start", "", len(tasks), ">= 60"),
        figure("starts with problems", "", wrong, "<= 0"),
        figure("superblocks torn between their sectors", "", len(torn)),
        figure("torn superblocks that are not repaired", "", sum(torn), "<= 0"),
    ]


def _recorded(image: SignedImage, folder: Path) -> tuple[RecordedStart, RecordedStart]:
    """Return the recorded starts of a new disk, and of the same disk flashed again."""
    lives = [Life(folder / "first", "OLD-7351", 1000), Life(folder / "second", "NEW-2846", 1)]
    if not lives[-1].records.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        disk = new_disk(folder / "disk.raw", image)
        for life in lives:
            life.folder.mkdir()
            flash(disk, image, life)
            record_start(life, disk)
        disk.unlink()
    return load(lives[0]), load(lives[1])


def _results(folder: Path) -> dict[str, list[str]]:
    """Return the cuts that an earlier run has tried, each with the problems found."""
    file = folder / "results.jsonl"
    return dict(map(json.loads, file.read_text().splitlines())) if file.exists() else {}


@dataclass(frozen=True)
class StartCut:
    """A power cut during request `index`; with `half`, the disk has that sector of each unflushed superblock."""

    index: int
    half: int | None


def cuts_of(recorded: RecordedStart) -> Iterator[StartCut]:
    """Yield the power cuts of a recorded start, all different."""
    flushes = recorded.flushes
    torn = [index for index, superblocks in enumerate(recorded.unflushed_superblocks) if superblocks]
    draw = Random(1)
    for turn in range(1, CUTS_OF_A_LIFE + 1):
        number = turn * len(flushes) // CUTS_OF_A_LIFE - 1
        before = flushes[number - 1] + 1 if number else 0
        between = range(before, flushes[number])
        if turn % 3 == 0:
            yield StartCut(flushes[number], None)
        elif turn % 3 == 1:
            yield StartCut(draw.choice(between) if between else flushes[number], None)
        else:
            yield StartCut(torn[turn * len(torn) // CUTS_OF_A_LIFE], turn // 3 % 2)


def _torn(recorded: RecordedStart, folder: Path) -> Iterator[bool]:
    """Tear each superblock in both ways, and repair it; yield whether e2fsck then finds errors."""
    tried: set[UnflushedSuperblock] = set()
    disk = folder / "torn.raw"
    for index, superblocks in enumerate(recorded.unflushed_superblocks):
        for superblock in set(superblocks) - tried:
            tried.add(superblock)
            for half in (0, 1):
                recorded.cut(index, disk)
                superblock.tear(disk, half)
                yield not _is_repaired(disk, superblock)
    disk.unlink(missing_ok=True)


def _is_repaired(disk: Path, superblock: UnflushedSuperblock) -> bool:
    offset = superblock.offset - SUPERBLOCK_OFFSET
    with loop_device(disk, 0, f"--offset={offset}") as device:
        commands = f"sh {REPAIR} {device} 0:0", f"e2fsck -a {device}", f"e2fsck -fn {device}"
        statuses = [
            subprocess.run(command.split(), check=False, capture_output=True).returncode
            for command in commands
        ]
    return statuses[1] <= 1 and statuses[2] == 0


def _name(recorded: RecordedStart, cut: StartCut) -> str:
    half = "" if cut.half is None else f"-sector-{cut.half}"
    return f"{recorded.life.folder.name}-{cut.index}{half}"


def _try(folder: Path, recorded: RecordedStart, former: Life | None, cut: StartCut) -> tuple[str, list[str]]:
    name = _name(recorded, cut)
    disk = folder / f"{name}.raw"
    shutil.rmtree(disk.with_suffix(".run"), ignore_errors=True)
    try:
        return name, check_start(recorded, cut.index, disk, cut.half, former)
    finally:
        disk.unlink(missing_ok=True)


if __name__ == "__main__":
    run(figures, __doc__)
