"""Writes docs/reference/threat-model.md; `make golden` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from imaging.papers.threats import page

PAGE: Final = Path("docs/reference/threat-model.md")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
