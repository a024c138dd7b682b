"""The callback by which a running lab reports its progress."""

from __future__ import annotations

from typing import Protocol


class LabProgress(Protocol):
    """Called repeatedly while a lab runs."""

    def __call__(self, now_ns: int, *, stored: int, backlog: int) -> None:
        """Report the progress at lab time `now_ns`, in ns.

        `stored` records are at the data center, and `backlog` records on the box.
        """
