"""Losses and duplicates when program and database are killed: `python -m bench.datacenter.kills [--json]`.

The data center's program, which ingests, evaluates and sends notices, or all processes of its PostgreSQL server are
killed at a thousand random moments while boxes send. See `tests.support.datacenter.store.kills`.
"""

from __future__ import annotations

from typing import Final

from bench.datacenter.scale import scaled
from bench.figures import Figure, figure, run
from tests.support.datacenter.store.kills import kill_repeatedly

KILLS: Final = scaled(1_000, 10)
SEED: Final = 1


def figures() -> list[Figure]:
    """Return all figures."""
    result = kill_repeatedly(KILLS, SEED)
    return [
        figure("kills of the program (ingest, evaluation, notices)", "", result.kills["program"]),
        figure("kills of the database server", "", result.kills["database"]),
        figure("records acknowledged", "", result.acknowledged),
        figure("records lost or changed", "", result.lost, "<= 0"),
        figure("records stored twice", "", result.duplicates, "<= 0"),
        figure("alerts", "", result.alerts),
        figure("alerts missing or without cause", "", result.wrong_alerts, "<= 0"),
        figure("alerts without notice, not recorded as uncertain", "", result.unnoticed, "<= 0"),
        figure("notices sent twice to a receiver that repeats them", "", result.repeated, "<= 0"),
        figure("notices recorded as uncertain", "", result.uncertain),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
