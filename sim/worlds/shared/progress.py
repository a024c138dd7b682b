"""The callback by which a running lab reports its progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called repeatedly while a lab runs."""

    def __call__(self, now_ns: int, *, stored: int, backlog: int) -> None:
        """The lab time is `now_ns` ns; `stored` records are at the data center, `backlog` records on the box."""
