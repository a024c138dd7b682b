"""The papers as PDF: a file for each document, with the evidence of every answer at its end."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_LEFT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    LongTable,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    TableStyle,
)

from trust.evidence import Evidence
from trust.fact import Fact
from trust.papers import NOT_SHOWN, Document, Papers, PaperSection, Statement

MARGIN: Final = 48
VALUES_MAX: Final = 260
"""The maximum number of listed values; further values are only in papers.json."""
VALUES_PER_ROW: Final = 24
"""The maximum number of values in a row of the table, which is never split across pages."""
INK: Final = HexColor("#1d2733")
LINE: Final = HexColor("#c9d0d8")
COLOURS: Final = {"yes": "#1c6b3a", "no": "#a02a1c", "n/a": "#51606f", "not shown": "#8a5a00"}
BODY: Final = ParagraphStyle(
    "body", fontName="Helvetica", fontSize=9, leading=12, textColor=INK, alignment=TA_LEFT
)
TITLE: Final = ParagraphStyle(
    "title", parent=BODY, fontName="Helvetica-Bold", fontSize=19, leading=24, spaceAfter=6
)
HEADING: Final = ParagraphStyle("heading", parent=BODY, fontName="Helvetica-Bold", fontSize=12, leading=16,
                                spaceBefore=12, spaceAfter=4, keepWithNext=1)  # fmt: skip
VALUE: Final = ParagraphStyle(
    "value", parent=BODY, fontName="Courier", fontSize=7, leading=8.6, splitLongWords=1
)
SMALL: Final = ParagraphStyle("small", parent=BODY, fontSize=7.5, leading=9.5, splitLongWords=1)


@dataclass(frozen=True)
class Content:
    """The sources of a document: facts by key, and the numbers and texts of evidence by id."""

    facts: Mapping[str, Fact]
    numbers: dict[str, int]
    evidence: Mapping[str, Evidence]

    def of(self, fact: Fact | None) -> str:
        """Return the numbers of a fact's evidence (`number_list`)."""
        for ident in fact.evidence if fact else ():
            self.numbers.setdefault(ident, len(self.numbers) + 1)
        return number_list({self.numbers[ident] for ident in fact.evidence} if fact else ())


def number_list(numbers: Collection[int]) -> str:
    """Return the numbers of pieces of evidence in ascending order, such as "E1, E4 to E7"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"E{run[0]}" if len(run) == 1 else f"E{run[0]} to E{run[-1]}" for run in runs)


def save_document(papers: Papers, document: Document, file: Path, papers_sha256: str) -> None:
    """Write a document of the papers as PDF (A4); an existing file is replaced. Raises: OSError."""
    content = Content(papers.by_key(), {}, {one.id: one for one in papers.evidence})
    story: list[Flowable] = [
        Paragraph(escape(document.title), TITLE),
        Paragraph(escape(_about(papers)), BODY),
        Spacer(0, 6),
    ]
    story += _paragraphs(document.text)
    for section in document.section:
        story += section_of(section, content)
    story += _evidence(content)
    footer = f"{document.id}  ·  SHA-256 of papers.json {papers_sha256}"

    def draw_footer(canvas: Canvas, template: SimpleDocTemplate) -> None:
        canvas.setFont("Helvetica", 6.5)
        canvas.setFillColor(INK)
        canvas.drawString(MARGIN, 26, footer)
        canvas.drawRightString(A4[0] - MARGIN, 26, f"page {template.page}")

    template = SimpleDocTemplate(
        str(file), pagesize=A4, leftMargin=MARGIN, rightMargin=MARGIN, topMargin=MARGIN, bottomMargin=MARGIN,
        title=document.title, author="rap trust papers", invariant=True,
    )  # fmt: skip
    template.build(story, onFirstPage=draw_footer, onLaterPages=draw_footer)


def _about(papers: Papers) -> str:
    origin = {
        "tree": "the files of an image",
        "running": "the running box",
        "evidence": "evidence collected on the box",
    }
    return f"Site: {papers.site}. Made {papers.made_at} from {origin[papers.machine]}."


def _paragraphs(text: str) -> list[Flowable]:
    return [Paragraph(escape(part), BODY) for part in text.strip().split("\n\n") if part]


def section_of(section: PaperSection, content: Content) -> Iterator[Flowable]:
    """Yield the heading, the text and the table of a section; values begin on the page of their statement."""
    yield Paragraph(escape(section.title), HEADING)
    yield from _paragraphs(section.text)
    if not section.statement:
        return
    rows: list[list[Any]] = [
        [Paragraph(f"<b>{name}</b>", SMALL) for name in ("No.", "Statement", "Answer", "Evidence")]
    ]
    together = []
    for one in section.statement:
        added = list(_rows(one, content))
        together.append(("NOSPLIT", (0, len(rows)), (-1, len(rows) + min(len(added), 2) - 1)))
        rows += added
    table = LongTable(rows, colWidths=[58, 320, 60, 61], repeatRows=1)
    table.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE),
                ("BACKGROUND", (0, 0), (-1, 0), HexColor("#eef1f5")),
                ("LEFTPADDING", (0, 0), (-1, -1), 3),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
                *together,
            ]
        )
    )
    yield Spacer(0, 4)
    yield table


def _rows(one: Statement, content: Content) -> Iterator[list[Any]]:
    fact = content.facts.get(one.fact)
    answer = one.answer(content.facts)
    notes = [one.note, *[f"Source: {one.source}"] * bool(one.source)]
    note = "".join(f'<br/><font size="7"><i>{escape(text)}</i></font>' for text in notes if text)
    coloured = f'<font color="{COLOURS[answer]}"><b>{answer}</b></font>'
    yield [
        Paragraph(escape(one.id), SMALL),
        Paragraph(escape(one.text) + note, BODY),
        Paragraph(coloured, BODY),
        Paragraph(("" if answer == NOT_SHOWN else content.of(fact)) or "none", SMALL),
    ]
    if one.shows and fact:
        values = [escape(value) for value in fact.values[:VALUES_MAX]] or ["(none)"]
        for first in range(0, len(values), VALUES_PER_ROW):
            yield ["", Paragraph("<br/>".join(values[first : first + VALUES_PER_ROW]), VALUE), "", ""]
        if len(fact.values) > VALUES_MAX:
            yield [
                "",
                Paragraph(f"and {len(fact.values) - VALUES_MAX} more: papers.json, {one.fact}", SMALL),
                "",
                "",
            ]


def _evidence(content: Content) -> Iterator[Flowable]:
    if not content.numbers:
        return
    yield PageBreak()
    yield Paragraph("Evidence", HEADING)
    yield Paragraph("The texts are in papers.json; secrets were removed before hashing.", BODY)
    yield Spacer(0, 4)
    rows: list[list[Any]] = [
        [Paragraph(f"<b>{name}</b>", SMALL) for name in ("No.", "Source", "Captured", "SHA-256")]
    ]
    for ident, number in content.numbers.items():
        one = content.evidence[ident]
        source = f"{one.kind}: {one.source}"
        shown = source if len(source) <= 160 else f"{source[:157]}…"
        rows.append(
            [
                f"E{number}",
                Paragraph(escape(shown), SMALL),
                Paragraph(one.at, SMALL),
                Paragraph(one.sha256, VALUE),
            ]
        )
    table = LongTable(rows, colWidths=[34, 202, 98, 165], repeatRows=1)
    table.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE),
                ("FONTSIZE", (0, 0), (-1, -1), 7.5),
                ("LEFTPADDING", (0, 0), (-1, -1), 3),
            ]
        )
    )
    yield table
