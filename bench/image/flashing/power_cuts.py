"""Power cuts at every write of a flash: `python -m bench.image.flashing.power_cuts [--json]`.

The cuts are those of the tests (`tests.support.imaging.flash.power_cuts`): after each write, within it, and with the
writes since the last flush in any order. Two models of firmware, one of them lenient, decide whether the disk starts;
then the flash is resumed.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Figure, figure, run
from imaging.flash.plan import make_plan
from imaging.flash.source import open_image
from imaging.flash.write import flash
from tests.support.imaging.flash.images import MemoryDisk, public_key, raw_image, sign
from tests.support.imaging.flash.power_cuts import DISK_BYTES, cuts, old_disk, starts_half_written


def figures() -> list[Figure]:
    with TemporaryDirectory() as folder:
        file = sign(raw_image(Path(folder) / "box.raw"))
        with open_image(file, public_key(file)) as image:
            plan = make_plan(image, DISK_BYTES, b"identity".ljust(1024, b"\0"))
            complete = MemoryDisk(old_disk())
            flash(plan, image, complete, in_flight=1)
            tried = half_written = resumed = 0
            for left in cuts(complete.trace):
                tried += 1
                half_written += starts_half_written(left, plan, complete)
                disk = MemoryDisk(bytes(left))
                flash(plan, image, disk, resume=True, in_flight=1)
                resumed += disk.content == complete.content
    return [
        figure("writes in the trace", "", len([entry for entry in complete.trace if entry])),
        figure("power cuts tried", "", tried),
        figure("cuts after which a half-written disk starts", "", half_written, "<= 0"),
        figure("cuts after which --resume completes the disk", "%", 100 * resumed / tried, ">= 100"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
