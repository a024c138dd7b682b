"""Whether the wrong disk would be written: `python -m bench.flash_disks [--json]`.

On the recorded machines of `tests/fixtures/machines`: disks that are mounted, swapped to, beneath RAID, LVM and LUKS,
the running system's, too small, read-only, and blank ones.
"""

from __future__ import annotations

from bench.figures import Figure, figure, run
from tests.support.imaging.layouts import FILES, load


def figures() -> list[Figure]:
    judged = [
        (name in layout.may_be_written, not reasons)
        for layout in map(load, FILES)
        for name, reasons in layout.judged().items()
    ]
    return [
        figure("machines", "", len(FILES), ">= 40"),
        figure("disks on them", "", len(judged)),
        figure("disks that must be kept, and would be written", "", judged.count((False, True)), "<= 0"),
        figure("disks that may be written, and are refused", "", judged.count((True, False)), "<= 0"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
