"""Sums over all segments of a log, updated with every change.

A spool of 1 TiB has 16,384 segments; acknowledgements and status queries must not take longer than with three
segments.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Totals:
    """Sums over the segments of one log, updated by the segments."""

    routine_records: int = 0
    routine_bytes: int = 0
    pinned_bytes: int = 0
    live_segments: int = 0  # segments with unacknowledged records
    live_bytes: int = 0  # total size of their files
