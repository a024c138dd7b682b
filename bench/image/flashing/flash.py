"""`rap flash` with full read-back compared with `bmaptool copy` without it.

Usage: `python -m bench.image.flashing.flash [--json]`.

The image is 4 GiB, sparse, with 600 MB mapped. Its content is this machine's own programs and libraries, so that it
compresses like a system. The target is a loop device on an allocated file, on the disk of interest. Both are run as
commands, from start to end, in turns; medians are compared. `rap flash` verifies the signature, writes past the
page cache, reads everything back from the device, and writes the record and its page; bmaptool 3 reads nothing back.
Each run begins without the image in the page cache, as on a machine that was just switched on; the figures with a
cached image are reported too. The loop device is faster than the disks of boxes, so that the processors are the
limit. Raw and compressed images are therefore compared again on the same device, limited to the rate of a fast USB
stick (`bench.image.flashing.throttle`).

Needs root, and the Debian packages bmap-tools and fdisk.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from bench.figures import Figure, figure, run
from bench.image.flashing.throttle import limited
from imaging import signing
from imaging.media import bmap
from imaging.media.imagefile import compress_framed, make_bmap

GIB = 1 << 30
MIB = 1 << 20
IMAGE_BYTES = 4 * GIB
MAPPED_BYTES = 600 * 10**6
EXTENTS = (64 * 1024, 256 * 1024, MIB, 4 * MIB, 16 * MIB)
TURNS = 5
STICK_BYTES_PER_SECOND = 200 * 10**6
STICK_TURNS = 3
LAYOUT = "label: gpt\nstart=1MiB, size=1GiB, name=root-a\nstart=1025MiB, size=3070MiB, name=data\n"


def make_image(file: Path) -> None:
    """Write a sparse file with a partition table, and extents with this machine's programs."""
    random = Random(1)
    content = programs()
    with file.open("wb") as out:
        out.truncate(IMAGE_BYTES)
        subprocess.run(["sfdisk", "--quiet", file], input=LAYOUT, text=True, check=True)
        offset, left = 2 * MIB, MAPPED_BYTES
        while left:
            data = b"".join(next(content) for _ in range(random.choice(EXTENTS) // EXTENTS[0]))[:left]
            os.pwrite(out.fileno(), data, offset)
            left -= len(data)
            offset += -(-len(data) // 4096) * 4096 + random.randrange(1, 3000) * 4096


def programs() -> Iterator[bytes]:
    """Yield this machine's programs and libraries in pieces, repeated endlessly."""
    while True:
        for folder in ("/usr/bin", "/usr/lib", "/usr/share"):
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                    data = path.read_bytes()
                    yield from (
                        data[offset : offset + EXTENTS[0]] for offset in range(0, len(data), EXTENTS[0])
                    )


def sign(raw: Path, image: Path, block_map: bmap.Bmap, map_bytes: bytes) -> None:
    """Write the files that belong to an image: map, manifest and signature."""
    map_file = signing.sibling(image, ".bmap")
    map_file.write_bytes(map_bytes)
    files = [signing.SignedFile(image.name, block_map.image_bytes, "0" * 64), signing.describe(map_file)]
    key = signing.load_private_key(raw.parent / "key.pem")
    signing.write_manifest(
        signing.Manifest(name="bench", files=files), signing.sibling(image, ".manifest.json"), key
    )


@contextmanager
def loop_device(file: Path) -> Iterator[str]:
    """Yield a loop device on an allocated file."""
    with file.open("wb") as out:
        os.posix_fallocate(out.fileno(), 0, IMAGE_BYTES)
    run = subprocess.run(["losetup", "--find", "--show", file], check=True, capture_output=True, text=True)
    device = run.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def timed(command: list[str], image: Path, *, cold: bool) -> float:
    """Return the duration of a command in seconds; `cold` removes the image from the page cache first."""
    fd = os.open(image, os.O_RDONLY)
    if cold:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.sync()
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    os.close(fd)
    return seconds


def rap_flash_command(folder: Path, image: Path, device: str) -> list[str]:
    command = [sys.executable, "-m", "rap", "flash", "write", str(image), device]
    command += ["--key", str(folder / "key.pub"), "--serial", Path(device).name]
    return [*command, "--record", str(folder / "record.json")]


def measure(folder: Path, raw: Path, framed: Path, device: str, *, cold: bool) -> dict[str, float]:
    """Return the median duration of each command in seconds, measured in turns."""
    contenders: dict[str, tuple[list[str], Path]] = {
        "bmaptool": (["bmaptool", "copy", "--bmap", str(folder / "raw.bmap"), str(raw), device], raw),
        "raw": (rap_flash_command(folder, raw, device), raw),
        "zstd": (rap_flash_command(folder, framed, device), framed),
    }
    durations: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(TURNS + 1):  # the first turn allocates blocks and is not counted
        for name, (command, image) in contenders.items():
            seconds = timed(command, image, cold=cold)
            if turn:
                durations[name].append(seconds)
            for record in folder.glob("record.*"):
                record.unlink()
    return {name: statistics.median(seconds) for name, seconds in durations.items()}


def on_a_stick(folder: Path, raw: Path, framed: Path, device: str) -> list[Figure]:
    """Return the figures of raw and compressed images on a device whose rate is the limit."""
    durations: dict[str, list[float]] = {"raw": [], "zstd": []}
    with limited(device, STICK_BYTES_PER_SECOND) as throttled:
        for _ in range(STICK_TURNS):
            for name, image in (("raw", raw), ("zstd", framed)):
                durations[name].append(
                    timed([*throttled, *rap_flash_command(folder, image, device)], image, cold=True)
                )
                for record in folder.glob("record.*"):
                    record.unlink()
    seconds = {name: statistics.median(times) for name, times in durations.items()}
    condition = f"disk of {STICK_BYTES_PER_SECOND / 1e6:.0f} MB/s"
    measured = [figure(f"{name}, {condition}", "s", seconds[name]) for name in durations]
    label = f"flash with read-back from zstd, {condition}"
    return [*measured, figure(label, "of the raw image's time", seconds["zstd"] / seconds["raw"], "<= 1.1")]


def figures() -> list[Figure]:
    """Return all figures. A temporary folder below `build` is used, which should be on the disk of interest."""
    folder = Path("build/bench-flash")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        raw, framed = folder / "raw.raw", folder / "framed.raw.zst"
        make_image(raw)
        block_map = make_bmap(raw)
        signing.make_key(folder / "key.pem", folder / "key.pub")
        compress_framed(raw, block_map, framed)
        for image in (raw, framed):
            sign(raw, image, block_map, bmap.render(block_map))
        measured = [figure("image, mapped", "MB", block_map.mapped_bytes / 1e6)]
        measured.append(figure("image, compressed", "MB", framed.stat().st_size / 1e6))
        with loop_device(folder / "target.img") as device:
            for cold, condition in ((True, "image on disk"), (False, "image in memory")):
                durations = measure(folder, raw, framed, device, cold=cold)
                measured += compare(durations, condition, targets=cold)
            measured += on_a_stick(folder, raw, framed, device)
        return measured
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def compare(durations: dict[str, float], condition: str, *, targets: bool) -> list[Figure]:
    measured = [figure(f"{name}, {condition}", "s", seconds) for name, seconds in durations.items()]
    ratios: list[tuple[str, str, str, str]] = [("raw", "bmaptool", "of bmaptool's time", "<= 0.9")]
    ratios.append(("zstd", "raw", "of the raw image's time", "<= 1.1"))
    for name, other, unit, target in ratios:
        label = f"flash with read-back from {name}, {condition}"
        measured.append(figure(label, unit, durations[name] / durations[other], target if targets else ""))
    return measured


if __name__ == "__main__":
    run(figures, __doc__)
