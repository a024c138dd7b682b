"""`rap trigger check`: checks trigger files."""

from __future__ import annotations

import argparse
from pathlib import Path

from rap.outcome import FAILED, OK


def check(arguments: argparse.Namespace) -> int:
    """Check trigger files, and print what is wrong."""
    from datacenter.triggers.proof import can_fire, implies
    from datacenter.triggers.triggerfile import Trigger, read_trigger
    from settings.problems import SettingsError

    found: dict[Path, Trigger] = {}
    outcome = OK
    for file in arguments.files:
        try:
            trigger = read_trigger(file)
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
        print(f"{file}: {trigger.table.model}, {trigger.table.severity}: valid{note}")
    return outcome
