"""Disks in use that `rap flash` would overwrite: `python -m bench.image.flashing.disks [--json]`.

The decisions are made for the recorded machines of `tests/fixtures/machines`. Their disks are mounted, used for swap,
RAID, LVM or LUKS, used by the running system, too small, read-only or blank.
"""

from __future__ import annotations

from bench.figures import Figure, figure, run
from tests.support.imaging.flash.layouts import FILES, load


def figures() -> list[Figure]:
    decisions = [
        (name in layout.may_be_written, not reasons)
        for layout in map(load, FILES)
        for name, reasons in layout.refusals_by_disk().items()
    ]
    return [
        figure("machines", "", len(FILES), ">= 40"),
        figure("disks on them", "", len(decisions)),
        figure("disks in use that would be overwritten", "", decisions.count((False, True)), "<= 0"),
        figure("unused disks that are refused", "", decisions.count((True, False)), "<= 0"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
