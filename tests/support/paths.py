"""Folders that tests read: the repository, its labs and the fixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LABS: Final = ROOT / "labs"
FIXTURES: Final = ROOT / "tests/fixtures"
