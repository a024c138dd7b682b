"""Image files: block maps and compression, also checked with bmaptool and zstd if they are installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imaging import signing
from imaging.disks.signatures import signatures
from imaging.flash.source import open_image
from imaging.media import bmap, unzstd
from imaging.media.bmap import Bmap, BmapError, MappedRange
from imaging.media.imagefile import (
    ImageError,
    compress_framed,
    decompress,
    frames,
    make_bmap,
    mapped_extents,
    sha256_of,
)
from tests.support.imaging.flash.images import IMAGE_BYTES, MIB, public_key, raw_image, sign


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "box.raw")


def test_holes_are_not_mapped(raw: Path) -> None:
    extents = mapped_extents(raw)
    assert (5 * MIB, 73728) in extents
    assert all(offset % 4096 == length % 4096 == 0 for offset, length in extents)
    assert sum(length for _, length in extents) < IMAGE_BYTES // 2


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_a_file_that_is_one_hole_has_no_mapped_ranges(tmp_path: Path, size: int) -> None:
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", size)
    assert make_bmap(tmp_path / "hole") == Bmap(size, ())


def test_a_sparse_hash_equals_that_of_a_plain_read(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    pread = os.pread

    def counted(fd: int, size: int, offset: int) -> bytes:
        read.append(size)
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    assert sha256_of(raw) == hashlib.sha256(raw.read_bytes()).hexdigest()
    assert sum(read) == sum(length for _, length in mapped_extents(raw)) < IMAGE_BYTES // 2


@pytest.mark.parametrize("size", [0, 1, 4096, MIB, 3 * MIB + 17])
@pytest.mark.parametrize("offsets", [[], [0], [MIB - 1], [5000, 2 * MIB + 5000], [3 * MIB + 16]])
def test_a_hash_covers_every_hole(tmp_path: Path, size: int, offsets: list[int]) -> None:
    with (file := tmp_path / "file").open("wb") as sparse:
        sparse.truncate(size)
        for offset in offsets:
            os.pwrite(sparse.fileno(), b"something", offset)
    assert sha256_of(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_map_is_unchanged_after_rendering_and_parsing(raw: Path) -> None:
    block_map = make_bmap(raw)
    assert bmap.parse(bmap.render(block_map)) == block_map
    assert all(span.offset // MIB == (span.end - 1) // MIB for span in block_map.ranges)


def replace(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old, new, 1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data[:-20], "is not a block map"),
        (replace(b"chksum", b"checksum"), "has no SHA-256"),
        (replace(b"<BlockSize> 4096", b"<BlockSize> 512"), "blocks of 4096"),
        (replace(b"<ImageSize> 8", b"<ImageSize> 9"), "is damaged"),
        (replace(b"ImageSize", b"Size"), "is not a block map"),
    ],
)
def test_an_invalid_map_is_reported(raw: Path, change: Callable[[bytes], bytes], problem: str) -> None:
    with pytest.raises(BmapError, match=problem):
        bmap.parse(change(bmap.render(make_bmap(raw))))


@pytest.mark.parametrize("spans", [((0, 8192), (4096, 4096)), ((0, 2 * MIB),), ((IMAGE_BYTES, 4096),)])
def test_ranges_that_overlap_or_exceed_the_image_are_reported(spans: tuple[tuple[int, int], ...]) -> None:
    wrong = Bmap(IMAGE_BYTES, tuple(MappedRange(offset, length, bytes(32)) for offset, length in spans))
    with pytest.raises(BmapError, match="has a range"):
        bmap.parse(bmap.render(wrong))


@pytest.mark.skipif(not shutil.which("bmaptool"), reason="bmap-tools is not installed")
def test_bmaptool_copies_with_the_written_map(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "box.bmap").write_bytes(bmap.render(make_bmap(raw)))
    command = ["bmaptool", "copy", "--bmap", f"{tmp_path}/box.bmap", str(raw), f"{tmp_path}/copy.raw"]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "copy.raw").read_bytes() == raw.read_bytes()


@pytest.mark.usefixtures("decompressor")
def test_the_compressed_image_decompresses_to_the_image(raw: Path, tmp_path: Path) -> None:
    block_map = make_bmap(raw)
    for name in ("a", "b"):
        compress_framed(raw, block_map, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with (tmp_path / "a").open("rb") as file:
        content = bytearray()
        for frame in frames(file.fileno()):
            into = bytearray(frame.length)
            decompress(os.pread(file.fileno(), frame.file_bytes, frame.file_offset), memoryview(into))
            assert frame.offset == len(content)
            content += into
    assert content == raw.read_bytes()


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
def test_zstd_decompresses_the_compressed_image(raw: Path, tmp_path: Path) -> None:
    compress_framed(raw, make_bmap(raw), tmp_path / "box.zst")
    run = subprocess.run(["zstd", "-dc", tmp_path / "box.zst"], check=True, capture_output=True)
    assert run.stdout == raw.read_bytes()


@pytest.fixture(params=[unzstd.LIBRARY, "libnonesuch.so"], ids=["libzstd", "in pieces"])
def decompressor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each of the two implementations of decompression."""
    monkeypatch.setattr(unzstd, "LIBRARY", request.param)
    unzstd.library.cache_clear()
    assert (unzstd.library() is None) == (request.param == "libnonesuch.so")
    yield
    unzstd.library.cache_clear()


@pytest.mark.usefixtures("decompressor")
@pytest.mark.parametrize("length", [100, 4095, 4097, 100_000])
def test_a_frame_whose_length_differs_from_its_table_is_reported(
    raw: Path, tmp_path: Path, length: int
) -> None:
    compress_framed(raw, make_bmap(raw), tmp_path / "box.zst")
    with (tmp_path / "box.zst").open("rb") as file:
        first = frames(file.fileno())[0]
        data = os.pread(file.fileno(), first.file_bytes, 0)
    decompress(data, memoryview(bytearray(first.length)))
    if length != first.length:
        with pytest.raises(ImageError, match="whose length differs"):
            decompress(data, memoryview(bytearray(length)))


@pytest.mark.usefixtures("decompressor")
@pytest.mark.parametrize("change", [lambda data: b"", lambda data: data[:-5], lambda data: b"no" + data])
def test_a_damaged_frame_is_reported(raw: Path, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    compress_framed(raw, make_bmap(raw), tmp_path / "box.zst")
    with (tmp_path / "box.zst").open("rb") as file:
        first = frames(file.fileno())[0]
        data = os.pread(file.fileno(), first.file_bytes, 0)
    with pytest.raises(ImageError, match=r"damaged frame|whose length differs"):
        decompress(change(data), memoryview(bytearray(first.length)))


def test_an_image_of_another_map_is_reported(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    image = sign(raw, compressed=True)
    other = sign(raw_image(tmp_path / "other" / "box.raw", seed=2), compressed=True)
    os.truncate(raw, 0)
    with raw.open("wb") as file:
        os.pwrite(file.fileno(), b"another", 7 * MIB)
    block_map = make_bmap(raw)
    image.unlink()
    compress_framed(raw, block_map, image)
    with pytest.raises(ImageError, match="belongs to another image"), open_image(image, public_key(image)):
        pass
    image.write_bytes(other.read_bytes())
    with open_image(image, public_key(image)) as opened, pytest.raises(ImageError, match="was changed"):
        opened.bytes(0, MIB)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_the_signature_is_verified_with_the_public_key_alone(raw: Path) -> None:
    sign(raw)
    command = "openssl pkeyutl -verify -rawin -pubin -inkey key.pub -in box.manifest.json -sigfile"
    subprocess.run([*command.split(), "box.manifest.json.sig"], check=True, cwd=raw.parent)


def test_invalid_key_files_are_reported_and_keys_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no key")
    with pytest.raises(signing.SigningError, match="is not an unencrypted private key"):
        signing.load_private_key(tmp_path / "no.pem")
    with pytest.raises(signing.SigningError, match="cannot be read"):
        signing.load_public_key(tmp_path / "missing.pub")
    signing.make_key(tmp_path / "key.pem", tmp_path / "key.pub")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        signing.make_key(tmp_path / "key.pem", tmp_path / "key.pub")


MAKERS = {
    "ext": "mkfs.ext4 -q -F {}",
    "swap": "mkswap -q {}",
    "LUKS": "cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --keyfile-size 32 -d {} {}",
    "FAT": "mkfs.vfat {}",
    "XFS": "mkfs.xfs -q -f {}",
    "Btrfs": "mkfs.btrfs -q -f {}",
    "squashfs": "mksquashfs /etc/hostname {} -noappend -quiet",
    "GPT": "sh -c 'echo label:gpt | sfdisk -q {}'",
}


@pytest.mark.parametrize("name", MAKERS)
def test_formats_are_recognized_in_files_written_by_their_own_programs(tmp_path: Path, name: str) -> None:
    program = "sfdisk" if name == "GPT" else MAKERS[name].split()[0]
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    file = tmp_path / "disk"
    file.touch()
    os.truncate(file, 320 * MIB)
    subprocess.run(MAKERS[name].format(file, file), shell=True, check=True, capture_output=True)
    with file.open("rb") as disk:
        fd = disk.fileno()
        assert signatures(lambda offset, length: os.pread(fd, length, offset), 320 * MIB) == [name]


def test_a_blank_disk_has_no_contents() -> None:
    for size in (0, 512, 4096, 10 * MIB):
        assert signatures(lambda offset, length: bytes(length), size) == []
