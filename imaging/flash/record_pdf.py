"""The flash record as a printable PDF page: the box, the image, the disk, and the hash to compare.

The QR code in the corner contains the hash, so that it need not be typed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from reportlab.graphics import renderPDF
from reportlab.graphics.barcode.qr import QrCodeWidget
from reportlab.graphics.shapes import Drawing
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from imaging.disks.machine import size_text
from imaging.flash.record import FlashRecord

MARGIN: Final = 50
LINE_POINTS: Final = 16
CODE_POINTS: Final = 120
PARTS_MAX: Final = 16
"""The number of partitions that fit on the page; the JSON record contains all of them."""


def save_pdf(record: FlashRecord, file: Path) -> None:
    """Write the page (PDF, A4) to a file that must not exist. Raises: OSError."""
    with file.open("xb") as out:
        canvas = Canvas(out, pagesize=A4, invariant=True)
        canvas.setTitle(f"Flash record {record.box or record.disk.serial}")
        _draw_qr_code(canvas, record, A4[0] - MARGIN - CODE_POINTS, MARGIN)
        y = A4[1] - MARGIN - 20
        canvas.setFont("Helvetica-Bold", 24)
        canvas.drawString(MARGIN, y, record.box or "RAP box")
        y -= 2 * LINE_POINTS
        for name, value in facts(record):
            y = _line(canvas, y, name, value)
        y -= 2 * LINE_POINTS
        canvas.setFont("Helvetica-Bold", 10)
        canvas.drawString(MARGIN, y, "Partitions: size, and SHA-256 of the written data")
        for part in record.parts[:PARTS_MAX]:
            y = _line(canvas, y - 3, f"{part.label or '-'}, {size_text(part.length)}", part.sha256)
        canvas.setFont("Helvetica", 9)
        canvas.drawString(MARGIN, MARGIN, f"Check with: rap flash verify DEVICE --record {file.stem}.json")
        canvas.save()


def facts(record: FlashRecord) -> list[tuple[str, str]]:
    """Return the lines of the page: label and value."""
    about = ", ".join(f"{name} {value}" for name, value in sorted(record.about.items()))
    return [
        ("Written", f"{record.written_at}, read back and compared"),
        ("Image", " ".join(filter(None, (record.image, about)))),
        ("Manifest SHA-256", record.manifest_sha256),
        ("Signing key SHA-256", record.signed_by_sha256),
        ("Disk", f"{record.disk.model or 'without a model name'}, {size_text(record.disk.bytes)}"),
        ("Disk serial", record.disk.serial or "none"),
        ("Certificate SHA-256", record.certificate_sha256 or "none yet"),
        ("Bytes written", f"{record.written_bytes:,} in {record.seconds:.1f} s"),
        ("SHA-256 of all", record.sha256),
    ]


def _line(canvas: Canvas, y: float, name: str, value: str) -> float:
    y -= LINE_POINTS
    canvas.setFont("Helvetica", 9)
    canvas.drawString(MARGIN, y, name[:28])
    canvas.setFont("Courier", 8)
    canvas.drawString(MARGIN + 130, y, value[:76])
    return y


def _draw_qr_code(canvas: Canvas, record: FlashRecord, x: float, y: float) -> None:
    text = f"rap-flash {record.box or '-'} {record.disk.serial or '-'} {record.written_at} {record.sha256}"
    drawing = Drawing(CODE_POINTS, CODE_POINTS)
    drawing.add(QrCodeWidget(text, barWidth=CODE_POINTS, barHeight=CODE_POINTS))
    renderPDF.draw(drawing, canvas, x, y)
