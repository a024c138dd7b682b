"""The recorded conversations of `tests/fixtures/instruments`."""

from __future__ import annotations

from typing import Final

from sim.conversations.casefile import read_conversations
from tests.support.paths import FIXTURES

INDEX: Final = FIXTURES / "instruments/index.toml"
CASES: Final = [
    *read_conversations(INDEX),
    *read_conversations(FIXTURES / "instruments/box-and-poct1a.toml"),
]
IN_REAL_TIME: Final = [case for case in CASES if not any(step.startswith("box") for step in case.script)]
"""The conversations without restarts and commands of the box, which take too long in real time."""
