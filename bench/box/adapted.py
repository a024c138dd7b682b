"""Power cuts and personal data in the intake of instruments' standards: `python -m bench.box.adapted [--json]`.

Power cuts: recorded conversations of each standard run with one power cut at each operation of the disk, and with a
second one at an operation of the following start; the torn sectors differ each time. Personal data: in the recorded
conversations, all ranges about patients, operators, facilities and free text are replaced by random bytes. Records,
counts, replies with their times, log messages and reported errors must not differ.
"""

from __future__ import annotations

from typing import Final

from bench.figures import Figure, figure, run
from tests.support.sim.conversations.cuts import CASES as CUT_CASES
from tests.support.sim.conversations.cuts import CutConversation, differences
from tests.support.sim.conversations.variants import CASES as VARIED_CASES
from tests.support.sim.conversations.variants import differing

CUTS: Final = 10_000
VARIANTS: Final = 100_000


def power_cuts() -> list[Figure]:
    """Return the figures of power cuts, each followed by a start and the repetition of unacknowledged messages."""
    clean = {case.name: CutConversation(case).run() for case in CUT_CASES}
    cuts = wrong = turn = 0
    while cuts < CUTS:
        turn += 1
        for case in CUT_CASES:
            for operation in range(1, clean[case.name].operations + 1):
                cut_operations = [operation] if turn % 2 else [operation, 1 + turn % 13]
                cut = CutConversation(case, cut_operations, seed=turn * 1000 + operation).run()
                wrong += bool(differences(clean[case.name], cut))
                cuts += cut.cuts
    return [
        figure(f"power cuts in {len(CUT_CASES)} recorded conversations", "cuts", cuts, f">= {CUTS}"),
        figure("  conversations with a report lost or stored twice", "conversations", wrong, "<= 0"),
    ]


def noninterference() -> list[Figure]:
    """Return the figures of variants of personal data that change the behaviour of the box."""
    each = -(-VARIANTS // len(VARIED_CASES))
    wrong = sum(len(list(differing(case, each))) for case in VARIED_CASES)
    return [
        figure(
            "variants of personal data in the intake",
            "variants",
            each * len(VARIED_CASES),
            f">= {VARIANTS}",
        ),
        figure("  with different behaviour of the box", "variants", wrong, "<= 0"),
    ]


def figures() -> list[Figure]:
    """Return all figures."""
    return power_cuts() + noninterference()


if __name__ == "__main__":
    run(figures, __doc__)
