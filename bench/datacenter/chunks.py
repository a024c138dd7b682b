"""The size of the stored history: `python -m bench.datacenter.chunks [--json]`.

A day of statuses of a simulated instrument of each model, a report each minute, as one chunk.
"""

from __future__ import annotations

import time
from typing import Final

from bench.datacenter.scale import scaled
from bench.figures import Figure, figure, run
from datacenter.history.chunk import decode_chunk, encode_chunk
from datacenter.history.statuses import Statuses
from sim.instruments import model_names
from sim.instruments.history import History
from sim.units import DAY_NS
from wire.messages import Status

DAYS: Final = scaled(5)


def measure(model: str) -> tuple[int, int, float, float]:
    """Return statuses of a model, bytes of their chunks, and processor seconds of encoding and decoding."""
    history = History(model, "X-1", 5)
    count = size = 0
    encoding = decoding = 0.0
    for day in range(1, DAYS + 1):
        reports = [(1, report) for report in history.until(day * DAY_NS) if isinstance(report, Status)]
        statuses = Statuses.of(reports)
        began = time.process_time()
        chunk = encode_chunk(statuses)
        encoded = time.process_time()
        decoded = decode_chunk(chunk)
        decoding += time.process_time() - encoded
        encoding += encoded - began
        assert list(decoded.reports()) == reports
        count += len(reports)
        size += len(chunk)
    return count, size, encoding, decoding


def figures() -> list[Figure]:
    """Return all figures; the mean is of a fleet with as many instruments of each model."""
    measured = {model: measure(model) for model in model_names()}
    count, size, encoding, decoding = (sum(column) for column in zip(*measured.values(), strict=True))
    return [
        figure("history stored, mean of all models", "B a report", size / count, "<= 3"),
        *(
            figure(f"  {model}", "B a report", one_size / one_count)
            for model, (one_count, one_size, _, _) in measured.items()
        ),
        figure("encoding", "µs a report", encoding / count * 1e6),
        figure("decoding", "µs a report", decoding / count * 1e6),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
