"""The connection attempts of a lab's intruders, and those that were not blocked."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Intrusions:
    """The number of attempts, and a description of each one that reached its target."""

    tried: int = 0
    reached: list[str] = field(default_factory=list)
