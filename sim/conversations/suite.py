"""Runs a recorded conversation whole, byte by byte, or divided at every point, and checks the result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from sim.conversations.casefile import Conversation
from sim.conversations.player import Played, Split, play

PROBLEMS_MAX = 10
"""The maximum number of problems listed for one case."""
SECRET_BYTES_MIN = 4
"""Minimum length for which patient data is searched: shorter data can occur in an answer by chance."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of one case: the number of times that it was played, and the first problems."""

    name: str
    plays: int
    problems: list[str]

    @property
    def passed(self) -> bool:
        """Whether no problem was found in any play."""
        return not self.problems

    def as_table(self) -> dict[str, object]:
        """Return a dictionary for the JSON output."""
        return {"name": self.name, "passed": self.passed, "plays": self.plays, "problems": self.problems}


def run_case(case: Conversation, split: str) -> CaseResult:
    """Play a case in each way that `split` means: "whole", "bytes" or "every-point"."""
    data, plays, problems = case.file.read_bytes(), 0, dict[str, None]()
    for name, divided in _splits(case, split):
        played = play(case, data, divided)
        plays += 1
        found = [*played.problems, *_patient_data(case, data, played)]
        problems |= dict.fromkeys(f"{problem}{name}" for problem in found)
        if len(problems) >= PROBLEMS_MAX:
            break
    return CaseResult(case.name, plays, list(problems)[:PROBLEMS_MAX])


def _splits(case: Conversation, split: str) -> Iterator[tuple[str, Split]]:
    if split == "whole":
        yield "", lambda data: [data]
    elif split == "bytes":
        yield " (byte by byte)", lambda data: [data[offset : offset + 1] for offset in range(len(data))]
    else:
        sizes = [
            int(step.arguments[1]) - int(step.arguments[0]) for step in case.steps() if step.kind == "send"
        ]
        for offset in range(1, max(sizes, default=0)):
            yield f" (divided at byte {offset} of each write)", partial(_divide, offset)


def _divide(offset: int, data: bytes) -> list[bytes]:
    return [data[:offset], data[offset:]] if offset < len(data) else [data]


def _patient_data(case: Conversation, data: bytes, played: Played) -> Iterator[str]:
    """Yield a problem for each sequence of patient data that left the box."""
    left = [*played.entries, b"".join(sent for _, sent in played.sent)]
    for first, end, *_ in case.patient_data:
        if isinstance(first, int) and isinstance(end, int) and end - first >= SECRET_BYTES_MIN:
            secret = data[first:end]
            if any(secret in content for content in left):
                yield f"bytes {first} to {end} of the file, data of a person, left the box"
