"""A back-test of thirty triggers on a stored history: `python -m bench.datacenter.backtest [--json]`.

Chunks of simulated chemistry analyzers that report each minute are read from a database, decoded, and evaluated for
many instruments at once, by one and by two Dask workers. The elapsed time is scaled to 10,000 instruments over 90
days; reading, decoding and evaluation are shown in processor time of one core.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from distributed import Client, LocalCluster
from sqlalchemy import insert, select

from bench.datacenter.scale import scaled
from bench.datacenter.triggers import wear_triggers
from bench.figures import Figure, figure, run
from datacenter.history.chunk import decode_chunk, encode_chunk
from datacenter.history.statuses import Statuses
from datacenter.scoring.stepping import evaluate_statuses, status_evaluator
from datacenter.store.store import Store
from datacenter.store.tables.schema import chunks
from sim.instruments.history import History
from sim.units import DAY_NS
from tests.support.datacenter.evaluation.triggers import MODEL
from wire.messages import Status

INSTRUMENTS: Final = scaled(5000, 20)
DAYS: Final = 1
SIMULATED: Final = 20
"""Number of different instruments that are simulated; the others repeat their statuses."""
TOGETHER: Final = 500
"""Instruments that are evaluated at once."""
ROUNDS: Final = 2
REPORTS: Final = 10_000 * 90 * 1440


class _Part(NamedTuple):
    """The processor seconds of a process, its statuses, and the alerts that began."""

    statuses: int
    reading: float
    decoding: float
    evaluating: float
    alerts: int


class _Decoded:
    """Decodes chunks as they are needed, and counts the seconds and the statuses."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self._bodies = bodies
        self.seconds, self.count = 0.0, 0

    def __iter__(self) -> Iterator[Statuses]:
        for body in self._bodies:
            began = time.process_time()
            statuses = decode_chunk(body)
            self.seconds += time.process_time() - began
            self.count += len(statuses)
            yield statuses


def fill(store: Store) -> int:
    """Enter the chunks into an empty store; return their bytes."""
    rows = []
    size = 0
    for simulated in range(SIMULATED):
        history = History(MODEL, f"SIM-{simulated}", 7)
        for day in range(DAYS):
            statuses = [
                (1, report) for report in history.until((day + 1) * DAY_NS) if isinstance(report, Status)
            ]
            body = encode_chunk(Statuses.of(statuses))
            copies = range(simulated, INSTRUMENTS, SIMULATED)
            size += len(body) * len(copies)
            rows += [
                {
                    "box": "RAP-0001",
                    "instrument": f"CHEM-{number:05}",
                    "day": day,
                    "statuses": len(statuses),
                    "body": body,
                }
                for number in copies
            ]
    with store.transaction() as connection:
        connection.execute(insert(chunks), rows)
    return size


def backtest(url: str, first: int) -> _Part:
    """Evaluate TOGETHER instruments from the number `first` on, day by day."""
    store = Store(url)
    evaluator = status_evaluator(wear_triggers(), min(TOGETHER, INSTRUMENTS - first))
    statuses = alerts = 0
    reading = decoding = evaluating = 0.0
    for day in range(DAYS):
        began = time.process_time()
        is_included = chunks.c.instrument.between(f"CHEM-{first:05}", f"CHEM-{first + TOGETHER - 1:05}")
        query = select(chunks.c.body).where(chunks.c.box == "RAP-0001", is_included, chunks.c.day == day)
        bodies = [body for (body,) in store.read(query.order_by(chunks.c.instrument))]
        read = time.process_time()
        parts = _Decoded(bodies)
        alerts += sum(change.is_active for change in evaluate_statuses(evaluator, parts))
        evaluating += time.process_time() - read - parts.seconds
        decoding += parts.seconds
        reading += read - began
        statuses += parts.count
    store.close()
    return _Part(statuses, reading, decoding, evaluating, alerts)


def parts(url: str, workers: int) -> tuple[float, list[_Part]]:
    """Return the elapsed seconds of a back-test with this number of Dask workers, and of its parts."""
    firsts = range(0, INSTRUMENTS, TOGETHER)
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,  # type: ignore[no-untyped-call]
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        client.gather(client.map(backtest, [url] * workers, [INSTRUMENTS - 1] * workers, pure=False))
        # the workers have imported what they need before the measurement
        began = time.monotonic()
        measured: list[_Part] = client.gather(client.map(backtest, [url] * len(firsts), firsts, pure=False))
        return time.monotonic() - began, measured


def figures() -> list[Figure]:
    """Return all figures."""
    with TemporaryDirectory(prefix="rap-backtest-") as folder:
        url = f"sqlite:///{Path(folder)}/store.db"
        store = Store(url)
        size = fill(store)
        store.close()
        alone = min(parts(url, 1)[0] for _ in range(ROUNDS))
        elapsed, measured_parts = min(
            (parts(url, 2) for _ in range(ROUNDS)), key=lambda measured: measured[0]
        )
    count = sum(part.statuses for part in measured_parts)
    cpu = sum(part.reading + part.decoding + part.evaluating for part in measured_parts)
    return [
        figure("statuses", "", count),
        figure("  alerts in them", "", sum(part.alerts for part in measured_parts)),
        figure("  size", "B a report", size / count),
        figure("reading", "µs a report", sum(part.reading for part in measured_parts) / count * 1e6),
        figure("decoding", "µs a report", sum(part.decoding for part in measured_parts) / count * 1e6),
        figure("evaluation", "µs a report", sum(part.evaluating for part in measured_parts) / count * 1e6),
        figure(
            "10,000 instruments, 90 days, two workers by the clock", "min", elapsed / count * REPORTS / 60
        ),
        figure("  by processor time on 2 cores", "min", cpu / 2 / count * REPORTS / 60, "<= 5"),
        figure("two Dask workers to one, by the clock", "", alone / elapsed, ">= 1.7"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
