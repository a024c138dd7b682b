"""Deltas between two root slots give the exact bytes of the target, and are small where it resembles the source."""

from __future__ import annotations

import lzma
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.build.partitions import set_times
from imaging.release.delta import DeltaInputError, make_delta
from imaging.release.ext4 import Ext4, Ext4Error
from wire.release.codecs import LZ4_MAGIC, PACK, UNPACK, CodecError
from wire.release.delta import WINDOW_BYTES, Copy, Delta, Part, Repack, Repeat

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

UUID = "6b1f7a52-33e4-5d7c-9a53-5f2b5d3f0c11"


def slot(folder: Path, name: str, files: dict[str, bytes], mib: int = 8, *more: str) -> Path:
    """Return a slot with these files, with the file system options of the image builder."""
    tree = folder / f"{name}.tree"
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    tree.mkdir(exist_ok=True)
    image = folder / f"{name}.img"
    image.unlink(missing_ok=True)
    options = ["-t", "ext4", "-U", UUID, "-E", f"hash_seed={UUID},lazy_itable_init=1,root_owner=0:0", *more]
    environment = {**os.environ, "E2FSPROGS_FAKE_TIME": "1790000000"}
    subprocess.run(
        ["/usr/sbin/mke2fs", "-q", "-F", *options, "-d", tree, image, f"{mib}m"], check=True, env=environment
    )
    return image


def applied(data: bytes, source: Path) -> tuple[Delta, bytes]:
    """Apply a delta to a source as a box does; return the opened delta and the result."""
    delta = Delta.open(lambda offset, length: data[offset : offset + length], len(data))
    old, result = source.read_bytes(), bytearray()
    delta.check_source(sha256(old).digest(), len(old))

    def write(offset: int, piece: bytes) -> None:
        assert offset == len(result)
        result.extend(piece)

    for _ in delta.apply(
        lambda offset, length: old[offset : offset + length],
        write,
        lambda offset, length: bytes(result[offset : offset + length]),
    ):
        pass
    return delta, bytes(result)


def code(seed: int, length: int, shift: int = 0) -> bytes:
    """Return bytes that resemble machine code: random instructions, each with an address that `shift` is added to."""
    random = Random(seed)
    return b"".join(
        random.randbytes(4) + struct.pack("<I", random.randrange(2**20) + shift) for _ in range(length // 8)
    )


def delta_of(
    folder: Path, before: dict[str, bytes], after: dict[str, bytes], mib: int = 8
) -> tuple[Delta, int]:
    """Return the delta between two trees, and its length, after checking that it gives the target."""
    source, target = slot(folder, "before", before, mib), slot(folder, "after", after, mib)
    data = make_delta(source, target)
    delta, result = applied(data, source)
    assert result == target.read_bytes()
    return delta, len(data)


names = st.sampled_from(["a", "b1", "b2", "usr/lib/c.so.1", "usr/lib/c.so.2", "usr/d", "e/f/g"])
contents = st.builds(
    lambda seed, length, shift: code(seed, length, shift)[: max(0, length - seed)],
    st.integers(0, 5),
    st.sampled_from([0, 8, 4096, 20_000, 70_000]),
    st.integers(0, 2),
)
trees = st.dictionaries(names, contents, max_size=6)


@settings(max_examples=8)
@given(before=trees, after=trees)
def test_any_two_trees_give_the_target(
    tmp_path_factory: pytest.TempPathFactory, before: dict[str, bytes], after: dict[str, bytes]
) -> None:
    delta_of(tmp_path_factory.mktemp("slots"), before, after, 2)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 40))
def test_any_two_images_that_are_not_ext4_give_the_target(
    tmp_path_factory: pytest.TempPathFactory, seed: int, before: int, after: int
) -> None:
    folder, random = tmp_path_factory.mktemp("images"), Random(seed)
    blocks = [bytes(4096), *(random.randbytes(4096) for _ in range(6))]
    for name, count in (("before", before), ("after", after)):
        (folder / name).write_bytes(b"".join(random.choice(blocks) for _ in range(count)))
    data = make_delta(folder / "before", folder / "after")
    assert applied(data, folder / "before")[1] == (folder / "after").read_bytes()


def test_the_same_slots_give_the_same_delta(tmp_path: Path) -> None:
    before = slot(tmp_path, "before", {"lib": code(1, 300_000), "other": code(2, 50_000)})
    after = slot(tmp_path, "after", {"lib": code(1, 300_000, 16), "more": code(3, 9_000)})
    assert make_delta(before, after, jobs=1) == make_delta(before, after, jobs=4)


def test_a_changed_file_costs_its_difference(tmp_path: Path) -> None:
    unchanged = {f"usr/lib/{number}": code(number, 200_000) for number in range(10)}
    _, size = delta_of(
        tmp_path, {**unchanged, "bin/rap": code(99, 400_000)}, {**unchanged, "bin/rap": code(99, 400_000, 64)}
    )
    assert size < 40_000, "each shifted address of 50,000 instructions must cost less than a byte"


def test_files_that_moved_are_copied(tmp_path: Path) -> None:
    files = {f"usr/lib/{number}": code(number, 300_000) for number in range(10)}
    delta, size = delta_of(tmp_path, files, {"a-new-one": code(99, 5_000), **files})
    assert size < 15_000
    assert sum(one.length for one in delta.operations if isinstance(one, Copy)) > 2_500_000


def test_a_renamed_library_is_patched(tmp_path: Path) -> None:
    _, size = delta_of(
        tmp_path,
        {"usr/lib/libssl.so.3.0.20": code(1, 400_000)},
        {"usr/lib/libssl.so.3.0.22": code(1, 400_000)[:200_000] + b"fix" + code(1, 400_000)[200_000:]},
    )
    assert size < 4_000


def test_a_second_copy_of_a_new_file_costs_nothing(tmp_path: Path) -> None:
    new = Random(1).randbytes(500_000)
    delta, size = delta_of(tmp_path, {}, {"boot/vmlinuz": new, "usr/lib/modules/1.0/vmlinuz": new})
    assert size < 520_000
    assert any(isinstance(one, Repeat) for one in delta.operations)


def kernel(content: bytes, stub: bytes) -> bytes:
    """Return a bzImage with LZ4, compressed as by scripts/Makefile.lib of Linux."""
    blocks = [content[start : start + WINDOW_BYTES] for start in range(0, len(content), WINDOW_BYTES)]
    packed = LZ4_MAGIC
    for block in blocks:
        compressed = PACK["lz4hc-9"](block)
        packed += struct.pack("<I", len(compressed)) + compressed
    packed += struct.pack("<I", len(content))
    header = bytearray(1024)
    header[0x1F1] = 1
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", header, 0x248, len(stub), len(packed))
    return bytes(header) + stub + packed + b"signature" * 20


def gzip_kernel(content: bytes, stub: bytes) -> bytes:
    """Return a bzImage with gzip, as on RHEL."""
    packed = subprocess.run(["gzip", "-n", "-f", "-9"], input=content, capture_output=True, check=True).stdout
    header = bytearray(1024)
    header[0x1F1] = 1
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", header, 0x248, len(stub), len(packed))
    return bytes(header) + stub + packed + b"signature" * 20


@pytest.mark.slow("12 MiB are compared and compressed")
def test_a_kernel_that_is_compressed_as_a_whole_is_patched(tmp_path: Path) -> None:
    before = code(1, 12 * 1024 * 1024)  # half of it is random: compressed, it is longer than a window
    after = before[:100_000] + b"inserted" + before[100_000:]
    kernels = [gzip_kernel(content, b"stub" * 300) for content in (before, after)]
    assert len(kernels[1]) > WINDOW_BYTES
    names = ["boot/vmlinuz-5.1", "boot/vmlinuz-5.2"]
    delta, size = delta_of(tmp_path, {names[0]: kernels[0]}, {names[1]: kernels[1]}, 32)
    assert size < 8_000
    parts = [operation for operation in delta.operations if isinstance(operation, Part)]
    assert len(parts) > 1 and [part.controls > 0 for part in parts] == [True, *[False] * (len(parts) - 1)]


def test_a_kernel_that_gzip_does_not_reproduce_is_sent_compressed(tmp_path: Path) -> None:
    def packed(content: bytes) -> bytes:
        reproducible = gzip_kernel(content, b"stub" * 300)
        fast = subprocess.run(["gzip", "-n", "-1"], input=content, capture_output=True, check=True).stdout
        start = 1024 + 1200
        header = bytearray(reproducible[:start])
        struct.pack_into("<I", header, 0x24C, len(fast))
        return bytes(header) + fast

    kernels = [packed(code(1, 100_000, shift)) for shift in (0, 8)]
    delta, _ = delta_of(tmp_path, {"boot/vmlinuz-1": kernels[0]}, {"boot/vmlinuz-2": kernels[1]})
    assert not any(isinstance(operation, Part | Repack) for operation in delta.operations)


def xz_module(content: bytes) -> bytes:
    return PACK["xz-module"](content)


def zstd_module(content: bytes) -> bytes:
    """Return a module compressed by zstd, as by scripts/Makefile.modinst of Linux."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return subprocess.run(["zstd", "-T0", "-q", "-c", file.name], capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("name", "packed", "operations"),
    [
        ("boot/vmlinuz-6.1", lambda content: kernel(content, b"stub" * 300), 2),
        ("usr/lib/modules/6.1/e1000e.ko.xz", xz_module, 1),
        ("usr/lib/modules/6.1/e1000e.ko.zst", zstd_module, 1),
    ],
)
def test_compressed_content_is_patched(
    tmp_path: Path, name: str, packed: Callable[[bytes], bytes], operations: int
) -> None:
    before = code(1, 400_000) + bytes(WINDOW_BYTES if operations == 2 else 0) + code(2, 20_000)
    after = code(1, 400_000)[:100_000] + b"inserted" + before[100_000:]
    delta, size = delta_of(tmp_path, {name: packed(before)}, {name.replace("6.1", "6.2"): packed(after)}, 12)
    assert size < 4_000
    assert sum(isinstance(one, Repack) for one in delta.operations) == operations


def test_a_file_that_a_box_cannot_compress_to_the_same_bytes_is_sent_compressed(tmp_path: Path) -> None:
    fast = [{"id": lzma.FILTER_LZMA2, "preset": 0, "nice_len": 7}]
    before = lzma.compress(code(1, 40_000), lzma.FORMAT_XZ, filters=fast)
    after = lzma.compress(code(1, 40_000, 8), lzma.FORMAT_XZ, filters=fast)
    delta, _ = delta_of(tmp_path, {"a.ko.xz": before}, {"a.ko.xz": after})
    assert not any(isinstance(one, Repack) for one in delta.operations)


def test_another_level_of_zstd_is_sent_compressed(tmp_path: Path) -> None:
    before, after = (zstd.compress(code(1, 40_000, shift), level=7) for shift in (0, 8))
    delta, _ = delta_of(tmp_path, {"a.ko.zst": before}, {"a.ko.zst": after})
    assert not any(isinstance(one, Repack) for one in delta.operations)


@pytest.mark.parametrize("damage", [lambda packed: packed[:-1], lambda packed: packed + b"-", lambda _: b""])
def test_damaged_zstd_is_refused(damage: Callable[[bytes], bytes]) -> None:
    packed = PACK["zstd-3"](b"module" * 100)
    assert UNPACK["zstd"](packed, 600) == b"module" * 100
    for content, length in ((damage(packed), 600), (packed, 599), (packed, 601)):
        with pytest.raises(CodecError):
            UNPACK["zstd"](content, length)


def test_files_in_several_extents_are_found(tmp_path: Path) -> None:
    content = Random(1).randbytes(3_000_000)
    image = slot(tmp_path, "image", {"large": content, "small": b"1"}, 12, "-b", "1024", "-g", "1024")
    data = image.read_bytes()
    files = {file.path: file for file in Ext4(memoryview(data)).files()}
    assert len(files["/large"].extents) > 1
    read = b"".join(data[one.offset : one.offset + one.length] for one in files["/large"].extents)
    assert (read[: files["/large"].size], files["/small"].size) == (content, 1)


def test_a_damaged_file_system_is_an_error_or_has_other_files(tmp_path: Path) -> None:
    sound = slot(tmp_path, "image", {"a/b": code(1, 9000), "c": b"1"}, 1).read_bytes()
    used = [at for at, byte in enumerate(sound) if byte]
    random = Random(5)
    for _ in range(300):
        data = bytearray(sound)
        for _ in range(random.randrange(1, 30)):
            data[random.choice(used)] = random.randrange(256)
        with suppress(Ext4Error):
            Ext4(memoryview(data)).files()


@pytest.mark.parametrize("content", [b"", b"1" * 4095])
def test_a_file_that_is_no_slot_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "slot").write_bytes(bytes(4096))
    (tmp_path / "other").write_bytes(content)
    for pair in (("slot", "other"), ("other", "slot")):
        with pytest.raises(DeltaInputError, match=f"other: has {len(content)} bytes"):
            make_delta(*(tmp_path / name for name in pair))


def test_all_timestamps_of_an_inode_are_its_modification_time(tmp_path: Path) -> None:
    tree = tmp_path / "image.tree"
    for name, moment in (("old", 1_500_000_000), ("new", 1_700_000_000)):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").write_bytes(b"1")
        for path in (tree / name / "file", tree / name):
            os.utime(path, (moment, moment))
    os.utime(tree, (1_600_000_000, 1_600_000_000))
    image = slot(tmp_path, "image", {})
    set_times(image, 0, image.stat().st_size, dict(os.environ))
    for name, moment in (("/old/file", 0x59682F00), ("/new", 0x6553F100)):
        command = ["/usr/sbin/debugfs", "-R", f"stat {name}", str(image)]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        times = re.findall(r"(\w+time): 0x([0-9a-f]+):00000000", shown)
        assert sorted(times) == [(time, f"{moment:08x}") for time in ("atime", "crtime", "ctime", "mtime")]
    subprocess.run(["/usr/sbin/e2fsck", "-fn", image], check=True, capture_output=True)


def initramfs(files: dict[str, bytes]) -> bytes:
    """Return an uncompressed initramfs as dracut makes it: an archive with microcode, then one with the files."""
    archives = b""
    for members in ({"kernel/x86/microcode/early": b"microcode" * 600}, files):
        for name, content in {**members, "TRAILER!!!": b""}.items():
            fields = (1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
            header = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
            archives += header.ljust(-(-len(header) // 4) * 4, b"\0") + content.ljust(
                -(-len(content) // 4) * 4, b"\0"
            )
        archives = archives.ljust(-(-len(archives) // 512) * 512, b"\0")
    return archives


def test_modules_in_an_initramfs_are_patched_decompressed_and_sent_once(tmp_path: Path) -> None:
    """On RHEL, modules are compressed even in an uncompressed initramfs."""

    def tree(version: str, shift: int) -> dict[str, bytes]:
        packed = {
            f"usr/lib/modules/{version}/{name}.ko.xz": PACK["xz-module"](code(seed, 200_000 + seed, shift))
            for seed, name in enumerate(("ext4", "nvme", "virtio_blk"), 1)
        }
        own = {"init": code(9, 30_000), "usr/bin/sh": code(10, 90_000)}
        return {**packed, f"boot/initramfs-{version}.img": initramfs({**own, **packed})}

    before, after = tree("1.0", 0), tree("1.1", 4096)
    modules = sum(len(content) for path, content in after.items() if path.endswith(".xz"))
    delta, length = delta_of(tmp_path, before, after)
    assert length < modules / 20
    kinds = [type(operation) for operation in delta.operations]
    assert kinds.count(Repack) == kinds.count(Repeat) == 3


def test_a_damaged_initramfs_is_treated_like_any_other_file(tmp_path: Path) -> None:
    sound = initramfs({"usr/bin/sh": code(10, 90_000), "init": code(9, 30_000)})
    for broken in (sound[:60_000], sound[:300] + b"x" * 200 + sound[500:], b"070701", sound + b"more"):
        delta_of(tmp_path, {"boot/initramfs-1.img": sound}, {"boot/initramfs-2.img": broken})
