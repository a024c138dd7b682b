"""Duplicate reports in a store."""

from __future__ import annotations

from collections import Counter

from datacenter.store import queries
from datacenter.store.store import Store


def duplicates(store: Store) -> list[tuple[str, str, str, int, int]]:
    """Return instruments' reports of equal content, which includes number and time: none if identities work.

    Of each its box, instrument, kind and time, and how many copies there are.
    """
    found = Counter(
        (record.box, record.instrument, record.kind, record.at_ms, body)
        for record, body in queries.bodies(store)
        if record.instrument
    )
    return sorted((*key[:4], copies) for key, copies in found.items() if copies > 1)
