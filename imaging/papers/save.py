"""Writes papers to a folder: papers.json with its schema, a PDF for each document, and the data-flow diagram.

papers.zip has all of them, for the data center.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Final

from reportlab.graphics import renderPDF, renderSVG

from imaging.papers.diagram import draw
from imaging.papers.flows import flows
from imaging.papers.pdf import save_document
from trust.papers import Papers, encode_papers, schema

ARCHIVE: Final = "papers.zip"


def save_papers(papers: Papers, folder: Path) -> list[Path]:
    """Write the files, which replace earlier ones, and return their paths. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    data = encode_papers(papers)
    written = {"papers.json": data, "papers.schema.json": schema()}
    for name, content in written.items():
        (folder / name).write_bytes(content)
    digest = hashlib.sha256(data).hexdigest()
    for document in papers.documents:
        save_document(papers, document, folder / f"{document.id}.pdf", digest)
    diagram = draw(flows(papers.by_key()))
    (folder / "data-flow.svg").write_text(renderSVG.drawToString(diagram), "utf-8")
    renderPDF.drawToFile(diagram, str(folder / "data-flow.pdf"))
    names = [*written, *(f"{one.id}.pdf" for one in papers.documents), "data-flow.svg", "data-flow.pdf"]
    with zipfile.ZipFile(folder / ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(names):
            archive.writestr(zipfile.ZipInfo(name), (folder / name).read_bytes(), zipfile.ZIP_DEFLATED)
    return [folder / name for name in (*names, ARCHIVE)]
