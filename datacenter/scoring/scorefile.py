"""The file of scores next to the triggers, `scores.toml`: no trigger goes live without its score.

`rap trigger test --write` writes it. A score belongs to a fingerprint: it becomes invalid when a change affects the
trigger's decisions or the names in it. The file contains no dates: the same test writes the same file.

[demanded]                          # optional: what `rap trigger test` demands of the set
recall = 0.9
lead_share = 0.7
false_per_year = 1
parts_right = 0.9

[triggers.chemistry-lamp]
fingerprint = "0123456789abcdef"
history = "simulated: seeds 6001 to 6026, 365 days each"
recall = 1.0                        # and the other figures of `datacenter.scoring.tally.Score`
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from datacenter.scoring.outcome import Scores
from datacenter.scoring.tally import Score
from datacenter.triggers.triggerfile import Trigger
from settings.problems import Problem, SettingsError
from settings.toml import dumps, load
from settings.types import Table

SCORES: Final = "scores.toml"


class Demands(Table, frozen=True):
    """The required scores of a set; None: not required. docs/design/trigger-scores.md defines the figures."""

    recall: float | None = None
    lead_share: float | None = None
    false_per_year: float | None = None
    parts_right: float | None = None


class RecordedScore(Score, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """A score, and the conditions of its measurement."""

    fingerprint: str
    history: str


class ScoreFile(Table, frozen=True):
    """The content of the file; `set` are the figures of the whole folder."""

    demanded: Demands = Demands()
    set: RecordedScore | None = None
    triggers: dict[str, RecordedScore] = {}


def read_scores(folder: Path) -> ScoreFile:
    """Read the scores of a folder of triggers; without a file there are none. Raises: SettingsError."""
    file = folder / SCORES
    return load(file, ScoreFile) if file.exists() else ScoreFile()


def unscored(triggers: Iterable[Trigger], recorded: ScoreFile) -> list[str]:
    """Return the names of the triggers without a score for their current definition."""
    known = {name: score.fingerprint for name, score in recorded.triggers.items()}
    return [trigger.name for trigger in triggers if known.get(trigger.name) != trigger.fingerprint]


def require_scores(folder: Path, triggers: Iterable[Trigger]) -> None:
    """Raise SettingsError if a trigger of a folder has no score for its current definition."""
    recorded = read_scores(folder)
    problems = [
        Problem(
            f"triggers.{name}",
            ("is the score of an earlier text" if name in recorded.triggers else "is missing")
            + "; a trigger goes live only with its score: "
            f"run `rap trigger test {folder / name}.toml --write`, or remove the trigger",
        )
        for name in unscored(triggers, recorded)
    ]
    if problems:
        raise SettingsError(folder / SCORES, *problems)


def write_scores(
    folder: Path, triggers: Iterable[Trigger], measured: Scores, history: str, *, is_whole: bool
) -> None:
    """Write the scores of triggers; other scores in the folder are kept.

    `is_whole`: whether the set is the whole folder.

    The set's figures are kept if they were measured with the folder's current triggers.

    Raises: SettingsError for an existing file that is invalid; OSError.
    """
    before = read_scores(folder)
    present = {file.stem for file in trigger_files(folder)}
    scores = {name: score for name, score in before.triggers.items() if name in present}
    tested = sorted(triggers, key=lambda trigger: trigger.name)
    for trigger in tested:
        scores[trigger.name] = _recorded(measured.triggers[trigger.name], trigger.fingerprint, history)
    scores = dict(sorted(scores.items()))
    of_set = sha256("\n".join(score.fingerprint for score in scores.values()).encode()).hexdigest()[:16]
    set_score = before.set if before.set is not None and before.set.fingerprint == of_set else None
    if is_whole:
        set_score = _recorded(measured.whole, of_set, history)
    after = ScoreFile(demanded=before.demanded, set=set_score, triggers=scores)
    (folder / SCORES).write_text(dumps(after, comment="Written by `rap trigger test --write`."))


def trigger_files(folder: Path) -> list[Path]:
    """Return the trigger files of a folder, in the order of their names."""
    return [file for file in sorted(folder.glob("*.toml")) if file.name != SCORES]


def _recorded(score: Score, fingerprint: str, history: str) -> RecordedScore:
    return RecordedScore(**msgspec.structs.asdict(score), fingerprint=fingerprint, history=history)
