"""`rap trigger check`: checks trigger files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rap.outcome import FAILED, OK

if TYPE_CHECKING:
    from datacenter.scoring.scorefile import ScoreFile
    from datacenter.triggers.triggerfile import Trigger


def check(arguments: argparse.Namespace) -> int:
    """Check trigger files, and print the problems."""
    from datacenter.scoring.scorefile import SCORES, read_scores, unscored
    from datacenter.triggers.proof import can_fire, implies
    from datacenter.triggers.silencefile import is_silence, read_silence
    from datacenter.triggers.triggerfile import read_trigger
    from settings.problems import SettingsError

    triggers: dict[Path, Trigger] = {}
    recorded: dict[Path, ScoreFile] = {}
    outcome = OK
    for folder in dict.fromkeys(file.parent for file in arguments.files):
        try:
            recorded[folder] = read_scores(folder)
        except SettingsError as error:
            print(error)
            outcome = FAILED
    for file in arguments.files:
        if file.name == SCORES:
            continue
        try:
            if is_silence(file):
                silence = read_silence(file).table
                print(f"{file}: {silence.of}, {silence.severity}: valid")
                continue
            trigger = read_trigger(file)
        except SettingsError as error:
            print(error)
            outcome = FAILED
            continue
        if can_fire(trigger):
            triggers[file] = trigger
        else:
            print(f"{file}: can never fire: no report meets the condition; correct `when`")
            outcome = FAILED
    for file, trigger in triggers.items():
        implied = [
            str(other) for other, second in triggers.items() if other != file and implies(trigger, second)
        ]
        note = f"; whenever it fires, so does {', '.join(implied)}" if implied else ""
        scores = recorded.get(file.parent)
        is_unscored = scores is not None and unscored([trigger], scores)
        score = "; has no score: run `rap trigger test --write`" if is_unscored else ""
        print(f"{file}: {trigger.table.model}, {trigger.table.severity}: valid{note}{score}")
    return outcome
