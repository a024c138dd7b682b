"""Sums over all segments of a log, current at all times.

A spool of 1 TiB has 16,384 segments: each acknowledgement and each status must take the same time as with three.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Totals:
    """Sums over the segments of one log. The segments themselves keep them current."""

    routine_records: int = 0
    routine_bytes: int = 0
    pinned_bytes: int = 0
    live_segments: int = 0  # segments that hold something not yet acknowledged
    live_bytes: int = 0  # the size of their files
