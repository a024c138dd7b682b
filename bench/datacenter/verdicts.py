"""Equal verdicts: `python -m bench.datacenter.verdicts [--json]`.

Reports of small instruments are stored in random orders of arrival, with repetitions, overtaking alerts, lost records
and restarts; the alerts must be those of all reports at once. Live evaluation, with and without the extension module,
and back-test are compared at each report, for conditions of all kinds. Tests do so with fewer orders and reports.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from random import Random
from typing import Final

from bench.datacenter.scale import scaled
from bench.figures import Figure, figure, run
from tests.support.datacenter.evaluation.arrivals import after_random_arrival
from tests.support.datacenter.evaluation.evaluators import (
    INSTRUMENTS,
    by_columns,
    live,
    random_triggers,
    stream,
)

ORDERS: Final = scaled(1_000, 20)
SEEDS: Final = scaled(8)


def order_differs(seed: int) -> tuple[bool, int]:
    """Return whether an order of arrival changes the verdict, and the number of alerts."""
    in_order_of_arrival, all_at_once = after_random_arrival(seed)
    return in_order_of_arrival != all_at_once, len(in_order_of_arrival)


def compare(seed: int) -> tuple[int, int]:
    """Return the number of evaluations of a trigger by each evaluator, and the number of differing transitions."""
    random = Random(seed)
    triggers = random_triggers(random)
    streams = [stream(random, random.randint(100, 400)) for _ in range(INSTRUMENTS)]
    expected = live(triggers, streams)
    differing = (by_columns(triggers, streams) ^ expected) | (
        live(triggers, streams, as_python=True) ^ expected
    )
    return sum(map(len, streams)) * len(triggers), len(differing)


def figures() -> list[Figure]:
    """Return all figures."""
    with ProcessPoolExecutor() as executor:
        orders = list(executor.map(order_differs, range(1_000, 1_000 + ORDERS), chunksize=20))
        compared = list(executor.map(compare, range(1_000, 1_000 + SEEDS)))
    return [
        figure("orders of arrival", "", len(orders), f">= {ORDERS}"),
        figure("  alerts in them", "", sum(count for _, count in orders)),
        figure("  with another verdict", "", sum(differs for differs, _ in orders), "<= 0"),
        figure(
            "evaluations, live, as Python, and as back-test",
            "",
            sum(count for count, _ in compared),
            f">= {SEEDS * 125_000}",
        ),
        figure("  differing transitions", "", sum(count for _, count in compared), "<= 0"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
