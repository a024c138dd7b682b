"""The printable page of a flash record, read back from the PDF."""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from reportlab.graphics import renderPDF
from reportlab.graphics.barcode.qr import QrCodeWidget
from reportlab.graphics.shapes import Drawing
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase.pdfmetrics import stringWidth

from imaging.flash.record import FlashedDisk, FlashedPart, FlashRecord, Span
from imaging.flash.record_pdf import PARTS_MAX, save_pdf

MARGIN = 40
"""Points that must be blank at each edge: more than what printers cannot print."""
TEXT = re.compile(r"BT /F\d ([\d.]+) Tf .*? ET\nBT 1 0 0 1 (\S+) (\S+) Tm \((.*?)\) Tj")
SQUARES = re.compile(r"^n (\S+) (\S+) (\S+) (\S+) re f", re.MULTILINE)
PLACED = re.compile(r"^q\n1 0 0 1 (\S+) (\S+) cm$", re.MULTILINE)
Point = tuple[float, float]


@dataclass(frozen=True)
class Text:
    """A text and the position of its beginning, in points from the lower left corner."""

    x: float
    y: float
    size: float
    text: str


def example(**changes: Any) -> FlashRecord:
    record = FlashRecord(
        written_at="2026-11-28T12:00:00+00:00",
        image="box.raw.zst",
        about={"release": "9.6", "build": "7"},
        manifest_sha256="a" * 64,
        signed_by_sha256="b" * 64,
        box="RAP-0001",
        certificate_sha256="c" * 64,
        disk=FlashedDisk(model="Stick", serial="S-1", bus="usb", bytes=16 * 10**9),
        seconds=1.25,
        parts=[
            FlashedPart(label="esp", offset=10**6, length=512 * 10**6, sha256="e" * 64),
            FlashedPart(label="", offset=2 * 10**6, length=10**9, sha256="f" * 64),
        ],
        spans=[Span(offset=0, length=512, sha256="0" * 64), Span(offset=512, length=1024, sha256="0" * 64)],
        sha256="d" * 64,
    )
    return msgspec.structs.replace(record, **changes)


def page(record: FlashRecord, folder: Path) -> str:
    """Return the drawing instructions of the record's page."""
    save_pdf(record, folder / "it.pdf")
    return instructions((folder / "it.pdf").read_bytes())


def instructions(pdf: bytes) -> str:
    """Return the drawing instructions of the only page of a PDF (ISO 32000-1, section 7.8)."""
    (stream,) = re.findall(rb"/FlateDecode \].*?stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    return zlib.decompress(base64.a85decode(stream.strip().removesuffix(b"~>"))).decode()


def texts(drawn: str) -> list[Text]:
    return [Text(float(x), float(y), float(size), text) for size, x, y, text in TEXT.findall(drawn)]


def lines(drawn: str) -> dict[str, str]:
    """Return the value beside each label."""
    return {a.text: b.text for a, b in pairwise(texts(drawn)) if a.y == b.y}


def test_the_page_shows_the_whole_record(tmp_path: Path) -> None:
    drawn = page(example(), tmp_path)
    assert lines(drawn) == {
        "Written": "2026-11-28T12:00:00+00:00, read back and compared",
        "Image": "box.raw.zst build 7, release 9.6",
        "Manifest SHA-256": "a" * 64,
        "Signing key SHA-256": "b" * 64,
        "Disk": "Stick, 16.0 GB",
        "Disk serial": "S-1",
        "Certificate SHA-256": "c" * 64,
        "Bytes written": "1,536 in 1.2 s",
        "SHA-256 of all": "d" * 64,
        "esp, 512.0 MB": "e" * 64,
        "-, 1.0 GB": "f" * 64,
    }
    strings = [each.text for each in texts(drawn)]
    assert strings[0] == "RAP-0001"
    assert strings[-1] == "Check with: rap flash verify DEVICE --record it.json"
    assert "Flash record RAP-0001" in (tmp_path / "it.pdf").read_bytes().decode("latin-1")


def test_unknown_values_are_shown_as_missing(tmp_path: Path) -> None:
    disk = FlashedDisk(model="", serial="", bus="usb", bytes=16 * 10**9)
    drawn = page(example(box="", certificate_sha256="", disk=disk, about={}), tmp_path)
    shown = lines(drawn)
    assert texts(drawn)[0].text == "RAP box"
    assert shown["Disk"] == "without a model name, 16.0 GB"
    assert (shown["Disk serial"], shown["Certificate SHA-256"]) == ("none", "none yet")
    assert shown["Image"] == "box.raw.zst"


def test_a_page_without_a_box_has_the_serial_of_the_disk_as_its_title(tmp_path: Path) -> None:
    page(example(box=""), tmp_path)
    assert "Flash record S-1" in (tmp_path / "it.pdf").read_bytes().decode("latin-1")


def test_no_two_lines_overlap_and_all_are_on_the_page(tmp_path: Path) -> None:
    part = example().parts[0]
    many = [msgspec.structs.replace(part, label=f"part-{n}") for n in range(PARTS_MAX + 4)]
    drawn = page(example(parts=many, image="an-image-with-a-long-name-" * 9), tmp_path)
    drawn_texts = texts(drawn)
    assert sum(each.text.startswith("part-") for each in drawn_texts) == PARTS_MAX
    (left, _), (_, top) = corners_of_the_code(drawn)
    for each in drawn_texts:
        end = each.x + stringWidth(each.text, "Courier", each.size)
        assert MARGIN <= each.x < end <= A4[0] - MARGIN, each.text
        assert MARGIN <= each.y <= A4[1] - MARGIN - each.size
        assert each.y > top or end < left, each.text
    for above, below in pairwise(drawn_texts):
        assert above.y == below.y or above.y - below.y >= below.size
        assert above.y != below.y or above.x + stringWidth(above.text, "Helvetica", above.size) < below.x


def test_the_title_is_largest_and_sections_are_separated(tmp_path: Path) -> None:
    drawn = page(example(), tmp_path)
    by_text = {each.text: each for each in texts(drawn)}
    title, heading = by_text["RAP-0001"], by_text["Partitions: size, and SHA-256 of the written data"]
    rest = [each for each in by_text.values() if each not in (title, heading)]
    assert title.size == max(each.size for each in by_text.values()) > 2 * heading.size
    assert all(each.size < heading.size for each in rest)
    gap = by_text["SHA-256 of all"].y - heading.y
    assert gap == pytest.approx(2 * (by_text["Written"].y - by_text["Image"].y))
    assert by_text["Written"].y < title.y - title.size


def squares(drawn: str) -> list[tuple[str, ...]]:
    return [tuple(each) for each in SQUARES.findall(drawn)]


def corners_of_the_code(drawn: str) -> tuple[Point, Point]:
    """Return the lower left and the upper right corner of the QR code."""
    x, y = map(float, PLACED.findall(drawn)[0])
    boxes = [tuple(map(float, each)) for each in squares(drawn)]
    left, right = min(each[0] for each in boxes), max(each[0] + each[2] for each in boxes)
    bottom, top = min(each[1] for each in boxes), max(each[1] + each[3] for each in boxes)
    return (x + left, y + bottom), (x + right, y + top)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (example(), f"rap-flash RAP-0001 S-1 2026-11-28T12:00:00+00:00 {'d' * 64}"),
        (
            example(box="", disk=FlashedDisk(model="", serial="", bus="", bytes=1)),
            f"rap-flash - - 2026-11-28T12:00:00+00:00 {'d' * 64}",
        ),
    ],
)
def test_the_qr_code_contains_box_disk_time_and_hash(tmp_path: Path, record: FlashRecord, text: str) -> None:
    drawn = page(record, tmp_path)
    expected = Drawing(120, 120)
    expected.add(QrCodeWidget(text, barWidth=120, barHeight=120))
    assert squares(drawn) == squares(instructions(cast(bytes, renderPDF.drawToString(expected))))
    (left, bottom), (right, top) = corners_of_the_code(drawn)
    assert A4[0] / 2 < left < right <= A4[0] - MARGIN
    assert MARGIN <= bottom < top < A4[1] / 4
