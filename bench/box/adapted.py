"""Power cuts and bytes of persons, through the intake of instruments: `python -m bench.box.adapted [--json]`.

Power: recorded conversations of each standard, with one power cut at each operation of the disk, and with a second
one at one of the operations of the following start, with other torn sectors each time. Persons: the recorded
conversations with random bytes in all ranges about patients, operators, facilities and free text; compared are all
records, counts, answers with their times, log messages and reported errors.
"""

from __future__ import annotations

from typing import Final

from bench.figures import Figure, figure, run
from tests.support.sim.conversation_cuts import CASES as CUT_CASES
from tests.support.sim.conversation_cuts import CutConversation, wrong_after
from tests.support.sim.conversation_variants import CASES as VARIED_CASES
from tests.support.sim.conversation_variants import differing

CUTS: Final = 10_000
VARIANTS: Final = 100_000


def power_cuts() -> list[Figure]:
    """Power cuts, each followed by a start and the repetition of what was not acknowledged."""
    clean = {case.name: CutConversation(case).run() for case in CUT_CASES}
    cuts = wrong = turn = 0
    while cuts < CUTS:
        turn += 1
        for case in CUT_CASES:
            for operation in range(1, clean[case.name].operations + 1):
                at = [operation] if turn % 2 else [operation, 1 + turn % 13]
                cut = CutConversation(case, at, seed=turn * 1000 + operation).run()
                wrong += bool(wrong_after(clean[case.name], cut))
                cuts += cut.cuts
    return [
        figure(f"power cuts in {len(CUT_CASES)} recorded conversations", "cuts", cuts, f">= {CUTS}"),
        figure("  conversations with a report lost or stored twice", "conversations", wrong, "<= 0"),
    ]


def noninterference() -> list[Figure]:
    """Variants of the bytes of persons that change what the box does."""
    each = -(-VARIANTS // len(VARIED_CASES))
    wrong = sum(len(list(differing(case, each))) for case in VARIED_CASES)
    return [
        figure(
            "variants of the bytes of persons, through the intake",
            "variants",
            each * len(VARIED_CASES),
            f">= {VARIANTS}",
        ),
        figure("  treated otherwise", "variants", wrong, "<= 0"),
    ]


def figures() -> list[Figure]:
    """Return all figures."""
    return power_cuts() + noninterference()


if __name__ == "__main__":
    run(figures, __doc__)
