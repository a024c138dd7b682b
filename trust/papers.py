"""The papers of a box: documents of statements, the facts that answer them, and the evidence of the facts.

Without evidence there is no "yes": a statement whose fact was not computed is "not shown", regardless of its text.
The conditions of a statement are part of the papers, so that every answer can be recomputed from the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from settings.types import Table
from trust.evidence import Evidence
from trust.fact import Fact

Answer: TypeAlias = Literal["yes", "no", "n/a", "not shown"]
NOT_SHOWN: Final = "not shown"


class PapersError(Exception):
    """The file does not contain papers; the message states the remedy."""


class Condition(Table, frozen=True):
    """A condition on the values of a fact; every given member must be true. Without any, the fact must exist."""

    equals: list[str] | None = None
    matches: list[str] = []
    """Regular expressions, each of which occurs in at least one value."""
    lacks: list[str] = []
    """Regular expressions that occur in no value."""
    only: list[str] = []
    """Regular expressions; each value must match one of them completely."""

    def holds(self, values: tuple[str, ...]) -> bool:
        """Return whether the values fulfil the condition."""
        return (
            (self.equals is None or tuple(self.equals) == values)
            and all(any(re.search(each, value) for value in values) for each in self.matches)
            and not any(re.search(each, value) for each in self.lacks for value in values)
            and (
                not self.only or all(any(re.fullmatch(each, value) for each in self.only) for value in values)
            )
        )


class Statement(Table, frozen=True):
    """A sentence or question, and how a fact answers it."""

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*\Z", examples=["SSH-1"])]
    text: str
    fact: str = ""
    """The key of the fact; "" if no machine can show it."""
    condition: Condition = Condition()
    then: Answer = "yes"
    """The answer if the condition holds."""
    otherwise: Answer = "no"
    shows: bool = False
    """Whether the values are printed with the statement."""
    note: str = ""
    source: str = ""
    """The official publication of a rule."""

    def answer(self, facts: Mapping[str, Fact]) -> Answer:
        """Return the answer by these facts."""
        fact = facts.get(self.fact)
        if fact is None or not fact.evidence:
            return NOT_SHOWN
        return self.then if self.condition.holds(fact.values) else self.otherwise


class PaperSection(Table, frozen=True):
    """A part of a document."""

    title: str
    text: str = ""
    statement: list[Statement] = []


class Document(Table, frozen=True):
    """One paper; `id` is also the name of its file."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9-]+\Z", examples=["ports-and-protocols"])]
    title: str
    order: int = 100
    text: str = ""
    section: list[PaperSection] = []


class Answered(Table, frozen=True):
    """A statement's answer, as in the papers; a check computes it again."""

    id: str
    answer: Answer


class Papers(Table, frozen=True):
    """The content of papers.json."""

    site: str
    """The name of the site."""
    made_at: str
    """UTC, ISO 8601."""
    machine: Literal["tree", "running", "evidence"]
    """The source of the facts."""
    facts: list[Fact]
    evidence: list[Evidence]
    documents: list[Document]
    answers: list[Answered]
    format: Literal["rap-papers/1"] = "rap-papers/1"

    def by_key(self) -> dict[str, Fact]:
        """Return the facts by key."""
        return {fact.key: fact for fact in self.facts}

    def statements(self) -> list[Statement]:
        """Return the statements of all documents."""
        return [
            statement
            for document in self.documents
            for section in document.section
            for statement in section.statement
        ]


def encode_papers(papers: Papers) -> bytes:
    """Return the papers as JSON."""
    return msgspec.json.format(msgspec.json.encode(papers), indent=1) + b"\n"


def decode_papers(data: bytes) -> Papers:
    """Read papers.json. Raises: PapersError."""
    try:
        papers = msgspec.json.decode(data, type=Papers)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PapersError(f"is not a file of `rap trust papers`: {error}") from None
    for statement in papers.statements():
        condition = statement.condition
        for pattern in (*condition.matches, *condition.lacks, *condition.only):
            try:
                re.compile(pattern)
            except re.error as error:
                text = f"statement {statement.id}: {pattern!r} is not a regular expression: {error}"
                raise PapersError(f"is not a file of `rap trust papers`: {text}") from None
    return papers


def schema() -> bytes:
    """Return the JSON schema of papers.json."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Papers)), indent=1) + b"\n"
