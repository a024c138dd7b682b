"""Block maps: the ranges of blocks of a disk image that have content, each with its SHA-256.

The format is that of bmap-tools 2.0, so that `bmaptool copy` can read the maps: XML, blocks of 4 KiB, ranges of block
numbers with both ends inclusive. One restriction is added: no range crosses a multiple of `CELL_BYTES`. A range
therefore fits into a buffer, and is compared with its hash *before* it is written anywhere.

The content of unmapped blocks is unspecified: they are not written.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree

BLOCK_BYTES: Final = 4096
CELL_BYTES: Final = 1024 * 1024


class BmapError(Exception):
    """The bytes are not a usable block map; the message states why."""


@dataclass(frozen=True)
class MappedRange:
    """A range of mapped bytes of an image, and the SHA-256 of its content."""

    offset: int
    length: int
    sha256: bytes

    @property
    def end(self) -> int:
        """The offset of the first byte after the range."""
        return self.offset + self.length


@dataclass(frozen=True)
class Bmap:
    """The ranges of an image of `image_bytes` to write, in ascending order without overlap."""

    image_bytes: int
    ranges: tuple[MappedRange, ...]

    @property
    def mapped_bytes(self) -> int:
        """The total length of the ranges."""
        return sum(span.length for span in self.ranges)


def render(bmap: Bmap) -> bytes:
    """Return the content of the block map's file; the same map gives the same bytes."""
    blank = "0" * 64
    text = "\n".join(_lines(bmap, blank)) + "\n"
    return text.replace(blank, hashlib.sha256(text.encode()).hexdigest(), 1).encode()


def _lines(bmap: Bmap, checksum: str) -> list[str]:
    mapped = sum(-(-span.length // BLOCK_BYTES) for span in bmap.ranges)
    return [
        '<?xml version="1.0" ?>',
        '<bmap version="2.0">',
        f"    <ImageSize> {bmap.image_bytes} </ImageSize>",
        f"    <BlockSize> {BLOCK_BYTES} </BlockSize>",
        f"    <BlocksCount> {-(-bmap.image_bytes // BLOCK_BYTES)} </BlocksCount>",
        f"    <MappedBlocksCount> {mapped} </MappedBlocksCount>",
        "    <ChecksumType> sha256 </ChecksumType>",
        f"    <BmapFileChecksum> {checksum} </BmapFileChecksum>",
        "    <BlockMap>",
        *(f'        <Range chksum="{span.sha256.hex()}"> {_blocks(span)} </Range>' for span in bmap.ranges),
        "    </BlockMap>",
        "</bmap>",
    ]


def _blocks(span: MappedRange) -> str:
    first, last = span.offset // BLOCK_BYTES, (span.end - 1) // BLOCK_BYTES
    return str(first) if first == last else f"{first}-{last}"


def parse(data: bytes) -> Bmap:
    """Read a block map. Raises: BmapError, if it has another format, is damaged, or has overlapping ranges."""
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - its signature was verified before
        checksum = _text(root, "BmapFileChecksum")
        image_bytes = int(_text(root, "ImageSize"))
        block_bytes = int(_text(root, "BlockSize"))
        ranges = tuple(_range(element, image_bytes) for element in root.iterfind("BlockMap/Range"))
    except (ElementTree.ParseError, ValueError) as error:
        raise BmapError(f"is not a block map: {error}") from None
    if block_bytes != BLOCK_BYTES or _text(root, "ChecksumType") != "sha256":
        raise BmapError("is not a block map with blocks of 4096 bytes and checksums of type sha256")
    if hashlib.sha256(data.replace(checksum.encode(), b"0" * 64, 1)).hexdigest() != checksum:
        raise BmapError("is damaged: its BmapFileChecksum is not that of its bytes")
    _check_order(ranges, image_bytes)
    return Bmap(image_bytes, ranges)


def _text(root: ElementTree.Element, name: str) -> str:
    text = root.findtext(name, "").strip()
    if not text:
        raise BmapError(f"is not a block map of version 2.0: it has no {name}")
    return text


def _range(element: ElementTree.Element, image_bytes: int) -> MappedRange:
    first, _, last = (element.text or "").strip().partition("-")
    offset = int(first) * BLOCK_BYTES
    end = min((int(last or first) + 1) * BLOCK_BYTES, image_bytes)
    sha256 = bytes.fromhex(element.get("chksum", ""))
    if len(sha256) != 32:
        raise ValueError(f"range {element.text} has no SHA-256")
    return MappedRange(offset, end - offset, sha256)


def _check_order(ranges: tuple[MappedRange, ...], image_bytes: int) -> None:
    end = 0
    for span in ranges:
        if span.offset < end or span.length <= 0 or span.end > image_bytes:
            raise BmapError(
                f"has a range at byte {span.offset} that overlaps another one, or exceeds the image: make the map "
                "with `rap image`"
            )
        if span.offset // CELL_BYTES != (span.end - 1) // CELL_BYTES:
            raise BmapError(
                f"has a range at byte {span.offset} across a boundary of 1 MiB: make the map with `rap image`"
            )
        end = span.end
