"""All states of sessions, and those of every weakened table: `python -m bench.sessions.exploration [--json]`.

Durations are in processor time of one core.
"""

from __future__ import annotations

import time
from itertools import chain

from bench.figures import Figure, figure, run
from sim.sessions.explore import Successors, explore_with
from sim.sessions.model import ALL, WHOLE
from sim.sessions.mutants import counterexample, endless_mutants, mutants
from wire.session.table import TABLE


def figures() -> list[Figure]:
    """Explore the whole model, then seek a counterexample for every mutant."""
    began = time.process_time()
    successors = Successors(TABLE, ALL)
    explored = [explore_with(successors, scope) for scope in WHOLE]
    seconds = time.process_time() - began
    began = time.process_time()
    detected = [counterexample(mutant) is not None for mutant in chain(mutants(), endless_mutants())]
    return [
        figure("states", "", sum(exploration.states for exploration in explored)),
        figure("moves", "", sum(exploration.moves for exploration in explored)),
        figure("violations", "", sum(bool(exploration.violation) for exploration in explored), "<= 0"),
        figure("exploration of all states", "s", seconds, "<= 60"),
        figure("weakened tables", "", len(detected)),
        figure("weakened tables without a counterexample", "", detected.count(False), "<= 0"),
        figure("search for counterexamples", "s", time.process_time() - began),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
