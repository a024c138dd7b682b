"""GRUB's choice of the slot in every state that a cut or damage leaves: `python -m bench.image --only slots`.

Each write of updates that are committed or given up after 0 to 3 tries is cut before, inside and after, and each copy
is destroyed in each of these states. The target is that GRUB always chooses as `settings.slots.choose` does, which
the tests of that module prove correct for all states.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Figure, figure
from settings.slots import TRIES_MAX, SlotState
from tests.support.imaging.starts import boot_states
from tests.support.imaging.starts.boot_states import BootState, update
from tests.support.imaging.starts.grub import wrong_decisions


def figures() -> list[Figure]:
    states = _states()
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        wrong = wrong_decisions(Path(folder), states)
    print(*wrong, sep="\n")
    return [
        figure("states decided by GRUB", "", len(states)),
        figure("wrong choices", "", len(wrong), "<= 0"),
        figure("time for each state", "s", (time.monotonic() - began) / len(states)),
    ]


def _states() -> list[BootState]:
    cut = [
        state
        for committed in ("a", "b")
        for healthy in (True, False)
        for tries in range(TRIES_MAX + 1)
        for state in boot_states.distinct(
            update(boot_states.new(SlotState(9, committed)), tries, healthy=healthy)
        )
    ]
    return list(dict.fromkeys([*cut, *(damaged for state in cut for damaged in state.damaged())]))
