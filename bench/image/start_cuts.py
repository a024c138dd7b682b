"""Power cuts during a first start, each followed by a start: `python -m bench.image.start_cuts [--json]`. Needs root.

A box's image is flashed by `rap flash write` and started in QEMU for the first time, until reports are stored and
others wait on the box. All writes and flushes of its disk are recorded. The same disk, on which a box has run, is
flashed a second time with the same image for another box, and that start is recorded, too.

The cuts are spread evenly over the flushes of both starts. Every other one is during the flush, the rest during a
write between it and the flush before. Each unflushed sector, and each sector of that write, is on the medium or not,
at random. From each of these disks the box is started again, two at a time. It must deliver a new report and all
reports that it had acknowledged; then the disk must have no errors, and nothing of the former box.

A run takes an hour or more. Results are kept in `build/start-cuts`, so that a run that was broken off continues.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Final

from bench.figures import Figure, figure, run
from tests.support.imaging.recorded_start import Life, Recorded, flash, load, new_disk, record_start
from tests.support.imaging.signed_image import SignedImage, signed_image
from tests.support.imaging.start_after_cut import judge_start
from tests.support.paths import ROOT

CUTS_OF_A_LIFE: Final = 30
AT_A_TIME: Final = 2
KEPT: Final = ROOT / "build/start-cuts"


def figures() -> list[Figure]:
    """All figures; each cut after which something is wrong is printed to standard error."""
    image = signed_image()
    folder = KEPT / image.image.parent.name
    first, second = _recorded(image, folder)
    results = _results(folder)
    pairs = zip(_cuts(first), _cuts(second), strict=True)
    tasks = [task for one, two in pairs for task in ((first, None, one), (second, first.life, two))]
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
        figure("starts after which something is wrong", "", wrong, "<= 0"),
    ]


def _recorded(image: SignedImage, folder: Path) -> tuple[Recorded, Recorded]:
    """The recorded starts of a new disk, and of the same disk flashed again."""
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
    """The cuts that a run before has tried."""
    file = folder / "results.jsonl"
    return dict(map(json.loads, file.read_text().splitlines())) if file.exists() else {}


def _cuts(made: Recorded) -> Iterator[int]:
    """The numbers of the requests during which the power is cut."""
    flushes = made.flushes
    draw = Random(1)
    for turn in range(1, CUTS_OF_A_LIFE + 1):
        number = turn * len(flushes) // CUTS_OF_A_LIFE - 1
        before = flushes[number - 1] + 1 if number else 0
        between = range(before, flushes[number])
        yield draw.choice(between) if turn % 2 and between else flushes[number]


def _name(made: Recorded, index: int) -> str:
    return f"{made.life.folder.name}-{index}"


def _try(folder: Path, made: Recorded, former: Life | None, index: int) -> tuple[str, list[str]]:
    name = _name(made, index)
    disk = folder / f"{name}.raw"
    shutil.rmtree(disk.with_suffix(".run"), ignore_errors=True)
    try:
        made.cut(index, disk)
        return name, judge_start(made, index, disk, former)
    finally:
        disk.unlink(missing_ok=True)


if __name__ == "__main__":
    run(figures, __doc__)
