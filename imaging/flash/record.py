"""The record of a flash, with the written ranges and their hashes, and the comparison of a disk with its record.

A record is one JSON document. It contains the position and hash of everything that was written, so that a disk can be
compared years later, without the image. It contains only the hashes of secrets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from imaging.flash.gpt import Slice
from imaging.flash.target import FlashTarget, buffer
from imaging.flash.write import IN_FLIGHT, WrittenRange
from imaging.media.bmap import CELL_BYTES
from imaging.signing import Sha256Hex

Whole = Annotated[int, msgspec.Meta(ge=0)]
Length = Annotated[int, msgspec.Meta(ge=512, le=CELL_BYTES, multiple_of=512)]
Offset = Annotated[int, msgspec.Meta(ge=0, multiple_of=512)]


class RecordError(Exception):
    """The file is not a valid flash record; the message states why."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base class of the objects of a record; unknown fields are errors."""


class FlashedDisk(_Table, frozen=True, kw_only=True):
    """The disk that was written."""

    model: str
    serial: str
    bus: str
    bytes: Whole


class FlashedPart(_Table, frozen=True, kw_only=True):
    """A partition; offset and length are in bytes, `sha256` covers the spans written in it (`summary`)."""

    label: str
    offset: Whole
    length: Whole
    sha256: Sha256Hex


class Span(_Table, frozen=True, kw_only=True):
    """A range of bytes that was written and read back."""

    offset: Offset
    length: Length
    sha256: Sha256Hex


class FlashRecord(_Table, frozen=True, kw_only=True):
    """The record of a completed flash. `written_at` is UTC (RFC 3339); `box` is "" if no identity was written."""

    format: Literal["rap-flash-record-1"] = "rap-flash-record-1"
    written_at: str
    image: str
    about: dict[str, str]
    manifest_sha256: Sha256Hex
    signed_by_sha256: Sha256Hex
    box: str
    certificate_sha256: str
    key_sha256: str = ""
    """The SHA-256 of the box's public key (SubjectPublicKeyInfo, DER), by which the data center identifies the box;
    "" in older records."""
    disk: FlashedDisk
    seconds: float
    parts: list[FlashedPart]
    spans: list[Span]
    sha256: Sha256Hex

    @property
    def written_bytes(self) -> int:
        """The number of bytes written."""
        return sum(span.length for span in self.spans)


def summary(written: Sequence[WrittenRange | Span]) -> str:
    """Return one SHA-256 for many spans, computed over a line with the offset, length and hash of each."""
    lines = "".join(f"{span.offset} {span.length} {span.sha256}\n" for span in written)
    return hashlib.sha256(lines.encode()).hexdigest()


def parts(slices: Sequence[Slice], written: Sequence[WrittenRange]) -> list[FlashedPart]:
    """Return the partitions, each with the `summary` of the spans written in it."""
    flashed = []
    for part in slices:
        digest = summary([span for span in written if _contains(part, span)])
        flashed.append(FlashedPart(label=part.label, offset=part.offset, length=part.length, sha256=digest))
    return flashed


def save(record: FlashRecord, file: Path) -> None:
    """Write the record to a file that must not exist. Raises: OSError."""
    with file.open("xb") as out:
        out.write(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")


def load(file: Path) -> FlashRecord:
    """Read a record. Raises: RecordError."""
    try:
        record = msgspec.json.decode(file.read_bytes(), type=FlashRecord)
    except OSError as error:
        raise RecordError(f"{file}: cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise RecordError(f"{file}: is not a flash record of `rap flash write`: {error}") from None
    if summary(record.spans) != record.sha256:
        raise RecordError(f"{file}: was changed: its `sha256` does not match its `spans`")
    if any(span.offset + span.length > record.disk.bytes for span in record.spans):
        raise RecordError(f"{file}: has `spans` beyond the end of its `disk`")
    return record


def only(record: FlashRecord, labels: Sequence[str]) -> FlashRecord:
    """Restrict a record to the partitions with these labels. Raises: RecordError, if one does not exist."""
    chosen = [part for part in record.parts if part.label in labels]
    if missing := set(labels) - {part.label for part in chosen}:
        known = ", ".join(part.label for part in record.parts)
        raise RecordError(f"there is no partition {sorted(missing)[0]!r} in the record; there are {known}")
    spans = [span for span in record.spans if any(_contains(part, span) for part in chosen)]
    return msgspec.structs.replace(record, spans=spans)


def _contains(part: Slice | FlashedPart, span: WrittenRange | Span) -> bool:
    """Return whether a span begins in a partition."""
    return part.offset <= span.offset < part.offset + part.length


def differences(
    record: FlashRecord, target: FlashTarget, progress: Callable[[int], None] = lambda _bytes: None
) -> list[Span]:
    """Return the spans of a record whose content on the disk has changed. Raises: DeviceError."""

    def differs(span: Span) -> bool:
        into = buffer(span.length)
        target.read(span.offset, into)
        return hashlib.sha256(into).hexdigest() != span.sha256

    changed = []
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        for span, is_changed in zip(record.spans, pool.map(differs, record.spans), strict=True):
            progress(span.length)
            if is_changed:
                changed.append(span)
    return changed


def location_of(record: FlashRecord, span: Span) -> str:
    """Return where a span is, for messages: the label of its partition, or "the partition table"."""
    for part in record.parts:
        if _contains(part, span):
            return part.label or f"the partition at byte {part.offset}"
    return "the partition table"
