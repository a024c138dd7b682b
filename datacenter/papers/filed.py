"""The papers of boxes in the database, and their state: whether they match the latest evidence of the box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple

from sqlalchemy import delete, insert, select

from datacenter.papers.upload import EVIDENCE, PAPERS
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_papers
from trust.evidence import decode_evidence
from trust.machine import Recorded
from trust.papers import Papers, decode_papers
from trust.verify import PaperComparison, compare

_C: Final = box_papers.c
STATES_REMEMBERED: Final = 32
"""A comparison takes up to a second."""


class FiledFile(NamedTuple):
    """A file of a box, without its content."""

    name: str
    title: str
    """The title of the document; the file name of other files."""
    size: int
    sha256: str
    stored_at_ms: int
    staff: str
    """The person who uploaded it."""


class BoxPapers(NamedTuple):
    """The papers of a box and their state."""

    box: str
    files: tuple[FiledFile, ...]
    papers: Papers | None = None
    answers: Mapping[str, int] = {}
    """The number of statements with each answer."""
    captured_at: str = ""
    """The time at which the latest of the evidence was captured: UTC, ISO 8601; empty without evidence."""
    evidence: FiledFile | None = None
    comparison: PaperComparison | None = None
    """The comparison of papers and evidence, if both exist."""


def file_upload(store: Store, box: str, files: Mapping[str, bytes], staff: str, now_ms: int) -> None:
    """Store uploaded files; papers replace all earlier papers, and evidence the earlier one. Raises: StoreError."""
    is_replaced = _C.name == EVIDENCE if EVIDENCE in files else _C.name != EVIDENCE
    rows = [
        {
            "box": box,
            "name": name,
            "body": body,
            "size": len(body),
            "sha256": sha256(body).hexdigest(),
            "stored_at_ms": now_ms,
            "staff": staff,
        }
        for name, body in files.items()
    ]
    with store.transaction() as connection:
        connection.execute(delete(box_papers).where(_C.box == box, is_replaced))
        connection.execute(insert(box_papers), rows)


def read_file(store: Store, box: str, name: str) -> bytes | None:
    """Return a file of a box; None if there is none. Raises: StoreError."""
    row = next(store.read(select(_C.body).where(_C.box == box, _C.name == name)), None)
    return None if row is None else bytes(row.body)


def papers_of(store: Store, box: str) -> BoxPapers:
    """Return the papers of a box with their state. Raises: StoreError."""
    query = select(_C.name, _C.size, _C.sha256, _C.stored_at_ms, _C.staff).where(_C.box == box)
    rows = list(store.read(query.order_by(_C.name)))
    bodies = {name: read_file(store, box, name) for name in (PAPERS, EVIDENCE)}
    papers_body, evidence_body = bodies[PAPERS], bodies[EVIDENCE]
    papers = decode_papers(papers_body) if papers_body else None
    titles = {f"{document.id}.pdf": document.title for document in papers.documents} if papers else {}
    titles |= dict.fromkeys(("data-flow.pdf", "data-flow.svg"), "Data-flow diagram")
    files = [FiledFile(row.name, titles.get(row.name, row.name), *row[1:]) for row in rows]
    order = {name: rank for rank, name in enumerate(titles)}
    return BoxPapers(
        box,
        tuple(
            sorted((f for f in files if f.name != EVIDENCE), key=lambda f: (order.get(f.name, 99), f.name))
        ),
        papers,
        Counter(answer.answer for answer in papers.answers) if papers else {},
        max(proof.at for proof in decode_evidence(evidence_body)) if evidence_body else "",
        next((file for file in files if file.name == EVIDENCE), None),
        _compared(papers_body, evidence_body) if papers_body and evidence_body else None,
    )


@lru_cache(STATES_REMEMBERED)
def _compared(papers: bytes, evidence: bytes) -> PaperComparison:
    return compare(decode_papers(papers), Recorded(decode_evidence(evidence)))
