"""Papers from the facts of a machine and the texts in `imaging/papers/documents/`, one file for each document."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final, Literal

from settings.toml import load
from trust.evidence import Evidence
from trust.facts import all_facts
from trust.machine import Files, Recorded
from trust.papers import Answered, Document, Papers

DOCUMENTS: Final = Path(__file__).parent / "documents"
COUNTRIES: Final = Path(__file__).parent / "countries"


def countries() -> list[str]:
    """Return the countries whose rules are known, by ISO 3166-1: two letters."""
    return sorted(file.stem.upper() for file in COUNTRIES.glob("*.toml"))


@cache
def documents(country: str = "") -> tuple[Document, ...]:
    """Return the documents in their order, with the rules of one of the `countries`. Raises: SettingsError."""
    files = [*sorted(DOCUMENTS.glob("*.toml")), *([COUNTRIES / f"{country.lower()}.toml"] if country else [])]
    return tuple(sorted((load(file, Document) for file in files), key=lambda one: (one.order, one.id)))


def make_papers(
    site: str,
    machine: Files | Recorded,
    origin: Literal["tree", "running", "evidence"],
    country: str = "",
) -> Papers:
    """Return the papers of a machine. Raises: SettingsError, if a document is invalid."""
    facts = all_facts(machine)
    used = {ident for fact in facts.values() for ident in fact.evidence}
    papers = documents(country)
    statements = [one for paper in papers for section in paper.section for one in section.statement]
    return Papers(
        site=site,
        made_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        machine=origin,
        facts=list(facts.values()),
        evidence=_chosen(machine.evidence.values(), used),
        documents=list(papers),
        answers=[Answered(id=one.id, answer=one.answer(facts)) for one in statements],
    )


def _chosen(evidence: Iterable[Evidence], used: set[str]) -> list[Evidence]:
    """Return the evidence that facts use, and all listings of paths, which recomputing the facts needs."""
    return sorted((one for one in evidence if one.id in used or one.kind == "paths"), key=lambda one: one.id)
