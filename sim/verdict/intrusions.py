"""What intruders tried in a lab, and whom they reached."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Intrusions:
    """A count of all attempts, and a line for each that got through."""

    tried: int = 0
    reached: list[str] = field(default_factory=list)
