"""Comparison of papers with a machine: each fact of the papers must be the machine's, value by value.

The papers themselves are checked first: every text has its hash, the facts follow from the evidence, and the answers
from the facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from trust.fact import Fact
from trust.facts import all_facts
from trust.machine import ExaminedBox, Recorded
from trust.papers import Papers


@dataclass(frozen=True)
class Deviation:
    """A fact that differs. `machine` is None if the machine shows no such fact."""

    fact: str
    papers: tuple[str, ...]
    machine: tuple[str, ...] | None
    statements: tuple[str, ...] = ()
    """The statements of the papers that are wrong or in doubt, in the form "ID: text"."""

    def lines(self) -> Iterator[str]:
        """Yield the deviation as readable lines: the fact, the statements, and the values that differ."""
        yield self.fact
        yield from (f"  {statement}" for statement in self.statements)
        if self.machine is None:
            yield f"  papers:  {'; '.join(self.papers) or '(none)'}"
            yield "  machine: not shown; run the command as root, on the box itself"
            return
        for end, values in _difference(self.papers, self.machine):
            yield f"  {end:<8} {'; '.join(values) if values else '(none)'}"


@dataclass(frozen=True)
class PaperComparison:
    """The result of comparing papers with a machine."""

    compared: int
    """The number of facts in the papers that come from a machine, not from documents about it."""
    deviations: tuple[Deviation, ...]
    altered: tuple[str, ...]
    """Changes of the papers after their creation."""
    beyond: tuple[str, ...]
    """Facts of the machine that the papers do not contain; they are not deviations."""

    @property
    def agrees(self) -> bool:
        """Whether papers and machine agree."""
        return not self.deviations and not self.altered

    def lines(self) -> Iterator[str]:
        """Yield the comparison as readable lines: the alterations, each deviation, and the counts."""
        yield from (f"ALTERED  {change}" for change in self.altered)
        for deviation in self.deviations:
            yield "DIFFERS  " + "\n".join(deviation.lines())
        same = self.compared - len(self.deviations)
        yield f"{same} of {self.compared} facts agree; {len(self.deviations)} differ"


def compare(papers: Papers, machine: ExaminedBox) -> PaperComparison:
    """Compare papers with a machine."""
    stated, shown = papers.by_key(), all_facts(machine)
    from_machine = {
        key: fact
        for key, fact in stated.items()
        if not all(ident.startswith("document:") for ident in fact.evidence)
    }
    deviations = [
        Deviation(key, fact.values, shown[key].values if key in shown else None, _about(papers, key))
        for key, fact in from_machine.items()
        if key not in shown or shown[key].values != fact.values
    ]
    beyond = tuple(key for key in shown if key not in stated)
    return PaperComparison(len(from_machine), tuple(deviations), tuple(_altered(papers)), beyond)


def _about(papers: Papers, key: str) -> tuple[str, ...]:
    return tuple(
        f"{statement.id}: {statement.text}" for statement in papers.statements() if statement.fact == key
    )


def _altered(papers: Papers) -> Iterator[str]:
    for evidence in papers.evidence:
        if not evidence.intact:
            yield f"evidence {evidence.id}: the text does not have the recorded SHA-256"
    stated, computed = papers.by_key(), all_facts(Recorded(papers.evidence))
    for key, fact in stated.items():
        if _values(computed.get(key)) != fact.values:
            yield f"fact {key}: does not follow from the evidence"
    answers = {answered.id: answered.answer for answered in papers.answers}
    for statement in papers.statements():
        if answers.pop(statement.id, None) != statement.answer(stated):
            yield f"statement {statement.id}: the answer does not follow from the facts"
    for ident in answers:
        yield f"answer {ident}: there is no such statement"


def _values(fact: Fact | None) -> tuple[str, ...] | None:
    return fact.values if fact else None


def _difference(papers: Sequence[str], machine: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the differences: at each position first the values of the papers, then the values of the machine."""
    for kind, p0, p1, m0, m1 in SequenceMatcher(None, papers, machine, autojunk=False).get_opcodes():
        if kind != "equal":
            yield "papers:", list(papers[p0:p1])
            yield "machine:", list(machine[m0:m1])
