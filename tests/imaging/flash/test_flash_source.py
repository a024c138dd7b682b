"""Reading ranges of signed images, and refusing images with the reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.flash.source import Image, open_image
from imaging.media.bmap import CELL_BYTES
from imaging.media.imagefile import ImageError
from tests.support.imaging.flash.images import IMAGE_BYTES, MIB, public_key, raw_image, sign


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "box.raw")


@pytest.fixture(params=["raw", "zstd"])
def image(request: pytest.FixtureRequest, raw: Path) -> Iterator[Image]:
    file = sign(raw, compressed=request.param == "zstd")
    with open_image(file, public_key(file)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, MIB),
        (MIB - 1000, 2000),  # across two cells
        (MIB + 300_000 - 4, 100_000),  # the end of a range, and a hole behind it
        (2 * MIB, 512),  # a hole
        (3 * MIB + 100, 300),  # within one range
        (3 * MIB - 1, MIB + 8194),  # a cell and more, with a hole at either end
        (0, IMAGE_BYTES),
    ],
)
def test_any_bytes_of_an_image_can_be_read(image: Image, raw: Path, offset: int, length: int) -> None:
    assert image.bytes(offset, length) == raw.read_bytes()[offset : offset + length]


def test_a_range_with_other_bytes_than_were_signed_is_refused(raw: Path) -> None:
    sign(raw)
    with open_image(raw, public_key(raw)) as image:
        span = image.bmap.ranges[2]
        with raw.open("r+b") as file:
            file.seek(span.offset)
            file.write(b"changed")
        into = memoryview(bytearray(CELL_BYTES))
        with pytest.raises(
            ImageError, match=rf"box\.raw: .*bytes {span.offset} to {span.end - 1} are not those"
        ):
            image.read(span, into[: span.length])
        image.read(image.bmap.ranges[1], into[: image.bmap.ranges[1].length])
        with pytest.raises(ImageError, match=r"box\.raw: was changed or is damaged"):
            image.bytes(span.offset, 1)


def test_an_image_of_another_size_than_its_map_is_refused(raw: Path) -> None:
    sign(raw)
    os.truncate(raw, IMAGE_BYTES + 512)
    problem = rf"box\.raw: has {IMAGE_BYTES + 512} bytes, but its map is for {IMAGE_BYTES}"
    with pytest.raises(ImageError, match=problem), open_image(raw, public_key(raw)):
        pass


def test_an_image_that_becomes_shorter_while_it_is_read_is_refused(raw: Path) -> None:
    sign(raw)
    with open_image(raw, public_key(raw)) as image:
        span = image.bmap.ranges[2]
        os.truncate(raw, span.offset + 512)
        with pytest.raises(
            ImageError, match=rf"box\.raw: ends at byte {span.offset + 512}: it was truncated"
        ):
            image.read(span, memoryview(bytearray(span.length)))


def failing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Replace a function of `os` by one that raises EIO."""

    def fails(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, name, fails)


def test_an_image_on_a_failing_disk_is_refused_with_the_offset(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(raw)
    with open_image(raw, public_key(raw)) as image:
        span = image.bmap.ranges[1]
        failing(monkeypatch, "preadv")
        with pytest.raises(ImageError, match=rf"box\.raw: byte {span.offset} cannot be read: Input/output"):
            image.read(span, memoryview(bytearray(span.length)))


def test_a_compressed_image_on_a_failing_disk_is_refused(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = sign(raw, compressed=True)
    with open_image(file, public_key(file)) as image:
        span = image.bmap.ranges[1]
        with monkeypatch.context() as during:
            failing(during, "pread")
            with pytest.raises(ImageError, match=r"box\.raw\.zst: .*Input/output error"):
                image.read(span, memoryview(bytearray(span.length)))
    failing(monkeypatch, "pread")
    with (
        pytest.raises(ImageError, match=r"box\.raw\.zst: .*Input/output error"),
        open_image(file, public_key(file)),
    ):
        pass


def test_an_image_that_is_missing_is_refused(raw: Path) -> None:
    sign(raw)
    raw.unlink()
    with (
        pytest.raises(ImageError, match=r"box\.raw: cannot be read: No such file"),
        open_image(raw, public_key(raw)),
    ):
        pass


def test_a_compressed_image_of_another_map_is_refused(raw: Path, tmp_path: Path) -> None:
    file = sign(raw, compressed=True)
    (tmp_path / "other").mkdir()
    other = raw_image(tmp_path / "other/box.raw")
    with other.open("r+b") as changed:
        changed.seek(6 * MIB + 4096)
        changed.write(b"one range more")
    (tmp_path / "other/key.pem").write_bytes((tmp_path / "key.pem").read_bytes())
    (tmp_path / "other/key.pub").write_bytes((tmp_path / "key.pub").read_bytes())
    other_file = sign(other, compressed=True)
    other_file.write_bytes(file.read_bytes())
    with (
        pytest.raises(ImageError, match=r"box\.raw\.zst: its frames do not match the ranges of its map"),
        open_image(other_file, public_key(other_file)),
    ):
        pass


def test_a_map_that_cannot_be_used_is_refused_with_its_name(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imaging.media.bmap.render", lambda _map: b"<bmap/>")
    sign(raw)
    with pytest.raises(ImageError, match=r"box\.bmap: is not a block map"), open_image(raw, public_key(raw)):
        pass


@pytest.mark.parametrize("compressed", [False, True])
def test_the_file_is_closed_after_any_error(raw: Path, *, compressed: bool) -> None:
    file = sign(raw, compressed=compressed)
    before = {each.name for each in Path("/proc/self/fd").iterdir()}
    with open_image(file, public_key(file)):
        pass
    os.truncate(file, 600)
    with pytest.raises(ImageError), open_image(file, public_key(file)):
        pass
    assert {each.name for each in Path("/proc/self/fd").iterdir()} == before
