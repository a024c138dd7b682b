"""Deltas between two releases of a real system, compared with those of other programs on the same two slots.

Targets: a set of about 30 security updates with a kernel in 9 MB, an application alone in 10 kB, applied with 128 MB
of memory in 15 s of processor time.
"""

from __future__ import annotations

import compileall
import filecmp
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final

from bench.figures import Figure, figure, run
from bench.update.trees import EPOCH, make_releases, make_slot

FOLDER: Final = Path(os.environ.get("RAP_BENCH_UPDATE", "bench-results/update"))
LINE_BYTES_PER_SECOND: Final = 128_000 / 8
BLOCK_BYTES: Final = 4096
MB: Final = 1e6
APPLICATION: Final = ("settings", "profiles", "wire", "hal", "netfw", "agents")


def figures() -> list[Figure]:
    """Return all figures of deltas."""
    before, after = make_releases(FOLDER)
    changed = [name for name, version in after.packages.items() if before.packages.get(name) != version]
    old = make_slot(before.tree, FOLDER / "before.img")
    new = make_slot(after.tree, FOLDER / "after.img")
    delta, made = _delta(old, new, FOLDER / "security.delta")
    sizes = {
        "zstd --patch-from -19 --long=31, image": _zstd(new, "--patch-from", old),
        "zstd -12, whole image": _zstd(new),
        "RAUC: 4 KiB blocks and their index": _blocks(old, new),
        "casync: chunks of 16 KiB and their index": _casync(old, new),
        "OSTree: static delta of the two trees": _ostree(before.tree, after.tree),
    }
    application_before, application_after = _application_slots(before.tree)
    application, _ = _delta(application_before, application_after, FOLDER / "application.delta")
    return [
        figure("packages", "", len(after.packages)),
        figure("changed packages", "", len(changed)),
        figure("security updates, delta", "MB", delta / MB, "<= 9"),
        figure("  at 128 kbit/s", "s", delta / LINE_BYTES_PER_SECOND, "<= 600"),
        figure("  processor time to make it", "s", made),
        *_apply(FOLDER / "security.delta", old, new),
        *(line for name, size in sizes.items() for line in _other(name, size)),
        figure("application alone, delta", "kB", application / 1000, "<= 10"),
        figure("  at 128 kbit/s", "s", application / LINE_BYTES_PER_SECOND),
    ]


def _other(name: str, size: int) -> Iterator[Figure]:
    yield figure(name, "MB", size / MB)
    yield figure("  at 128 kbit/s", "s", size / LINE_BYTES_PER_SECOND)


def _delta(old: Path, new: Path, file: Path) -> tuple[int, float]:
    """Make a delta; returns its length in bytes, and the processor time in seconds."""
    before = os.times()
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "rap",
        "image",
        "release",
        "delta",
        old,
        new,
        "-o",
        file,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return file.stat().st_size, (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )


def _apply(delta: Path, old: Path, new: Path) -> list[Figure]:
    applied = FOLDER / "made.img"
    command: list[str | Path] = [sys.executable, "-m", "bench.update.apply", delta, old, applied]
    measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    wrong = not filecmp.cmp(applied, new, shallow=False)
    applied.unlink()
    return [
        figure("  applied: slots that differ from the target", "", wrong, "<= 0"),
        figure("  applied: processor time", "s", measured["cpu_s"], "<= 15"),
        figure("  applied: duration", "s", measured["wall_s"]),
        figure("  applied: memory", "MB", measured["memory_mb"], "<= 128"),
        figure("  applied: longest operation, processor time", "s", measured["longest_operation_s"]),
    ]


def _zstd(image: Path, *patch_options: str | Path) -> int:
    packed = FOLDER / "image.zst"
    level = ["-19", "--long=31"] if patch_options else ["-12"]
    subprocess.run(["zstd", "-q", "-f", *level, *patch_options, image, "-o", packed], check=True)
    return packed.stat().st_size


def _blocks_of(image: Path) -> Iterator[bytes]:
    with image.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _blocks(old: Path, new: Path) -> int:
    """Return the bytes of the missing blocks, compressed together as favourably as possible, and of the index."""
    known_hashes = {hash(block) for block in _blocks_of(old)}
    (missing := FOLDER / "missing").write_bytes(
        b"".join(block for block in _blocks_of(new) if hash(block) not in known_hashes)
    )
    index = new.stat().st_size // BLOCK_BYTES * 32
    size = _zstd_19(missing) + index
    missing.unlink()
    return size


def _zstd_19(file: Path) -> int:
    packed = FOLDER / "packed.zst"
    subprocess.run(["zstd", "-q", "-f", "-19", file, "-o", packed], check=True)
    return packed.stat().st_size


def _casync(old: Path, new: Path) -> int:
    store, indexes = FOLDER / "store.castr", [FOLDER / "before.caibx", FOLDER / "after.caibx"]
    shutil.rmtree(store, ignore_errors=True)
    sizes = []
    for image, index in zip((old, new), indexes, strict=True):
        options = ["--chunk-size=16384", f"--store={store}"]
        subprocess.run(["casync", "make", *options, index, image], check=True, stdout=subprocess.DEVNULL)
        sizes.append(sum(chunk.stat().st_size for chunk in store.rglob("*.cacnk")))
    return sizes[1] - sizes[0] + indexes[1].stat().st_size


def _ostree(old: Path, new: Path) -> int:
    repository = FOLDER / "ostree"
    shutil.rmtree(repository, ignore_errors=True)
    _run_ostree(repository, "init", "--mode=archive")
    commits = [
        _run_ostree(repository, "commit", f"--branch=slot{number}", f"--tree=dir={tree.absolute()}")
        for number, tree in enumerate((old, new))
    ]
    file = (FOLDER / "ostree.delta").absolute()
    options = ["--min-fallback-size=0", "--inline", f"--filename={file}"]
    _run_ostree(
        repository, "static-delta", "generate", f"--from={commits[0]}", f"--to={commits[1]}", *options
    )
    return file.stat().st_size


def _run_ostree(repository: Path, *arguments: str) -> str:
    command = ["ostree", f"--repo={repository}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _application_slots(tree: Path) -> list[Path]:
    """Return slots of a tree with the box program, and with a corrected one: two functions in two of its modules."""
    slots = []
    for name in ("application-before", "application-after"):
        image, slot_tree = FOLDER / f"{name}.img", FOLDER / name
        if not image.exists():
            shutil.rmtree(slot_tree, ignore_errors=True)
            subprocess.run(["cp", "--archive", "--link", tree, slot_tree], check=True)
            _install(slot_tree / "usr/lib/rap", corrected=name.endswith("after"))
            make_slot(slot_tree, image)
        slots.append(image)
    return slots


_CORRECTION: Final = '''

def _is_plausible(value: int, lowest: int, highest: int) -> bool:
    """Return whether a value is within its limits, which may be given in any order."""
    if lowest > highest:
        lowest, highest = highest, lowest
    return lowest <= value <= highest
'''


def _install(folder: Path, *, corrected: bool) -> None:
    root = Path(__file__).parents[2]
    for package in APPLICATION:
        shutil.copytree(
            root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.so")
        )
    if corrected:
        for module in ("agents/spool/__init__.py", "wire/columns.py"):
            with (folder / module).open("a") as file:
                file.write(_CORRECTION)
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (EPOCH, EPOCH))
    mode = PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(
        folder, quiet=1, stripdir=str(folder), prependdir="/usr/lib/rap", invalidation_mode=mode
    )
    for path in folder.rglob("*"):
        os.utime(path, (EPOCH, EPOCH))


if __name__ == "__main__":
    run(figures, __doc__)
