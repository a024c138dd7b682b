"""`rap trigger check`: checks trigger files."""

from __future__ import annotations

import argparse
from pathlib import Path

from rap.outcome import FAILED, OK


def check(arguments: argparse.Namespace) -> int:
    """Check trigger files, and print what is wrong."""
    from datacenter.scoring.scorefile import SCORES, has_score
    from datacenter.triggers.proof import can_fire, implies
    from datacenter.triggers.silencefile import is_silence, read_silence
    from datacenter.triggers.triggerfile import Trigger, read_trigger
    from settings.problems import SettingsError

    found: dict[Path, Trigger] = {}
    is_scored: dict[Path, bool] = {}
    outcome = OK
    for file in arguments.files:
        if file.name == SCORES:
            continue
        try:
            if is_silence(file):
                silence = read_silence(file).table
                print(f"{file}: {silence.of}, {silence.severity}: valid")
                continue
            trigger = read_trigger(file)
            is_scored[file] = has_score(file.parent, trigger)
        except SettingsError as error:
            print(error)
            outcome = FAILED
            continue
        if can_fire(trigger):
            found[file] = trigger
        else:
            print(f"{file}: can never fire: no report meets the condition; correct `when`")
            outcome = FAILED
    for file, trigger in found.items():
        implied = [
            str(other) for other, second in found.items() if other != file and implies(trigger, second)
        ]
        note = f"; whenever it fires, so does {', '.join(implied)}" if implied else ""
        score = "" if is_scored[file] else "; has no score: run `rap trigger test --write`"
        print(f"{file}: {trigger.table.model}, {trigger.table.severity}: valid{note}{score}")
    return outcome
