"""Duplicate reports in a store."""

from __future__ import annotations

from collections import Counter

from datacenter.store import queries
from datacenter.store.store import Store


def duplicates(store: Store) -> list[tuple[str, str, str, int, int]]:
    """Return the reports that are stored more than once, as (box, instrument, kind, time in ms, copies).

    Reports are compared by content, which includes number and time; deduplication by identity leaves none.
    """
    counts = Counter(
        (record.box, record.instrument, record.kind, record.at_ms, body)
        for record, body in queries.bodies(store)
        if record.instrument
    )
    return sorted((*key[:4], copies) for key, copies in counts.items() if copies > 1)
