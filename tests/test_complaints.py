"""Each complaint about other products has a test, which a design note names."""

from __future__ import annotations

import re

import pytest

from tests.support.paths import ROOT

COMPLAINTS = {"sessions": 19, "updates": 22}
"""The number of complaints that each design note lists."""


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]


@pytest.mark.parametrize("page", COMPLAINTS)
def test_each_complaint_names_tests_that_exist(page: str, texts: list[str]) -> None:
    text = (ROOT / f"docs/design/{page}.md").read_text()
    rows = text.partition("## Complaints about other products")[2].partition("\n## ")[0].splitlines()
    named = [re.findall(r"`(test_\w+)`", row) for row in rows if "`test_" in row]
    assert len(named) == COMPLAINTS[page]
    missing = [name for names in named for name in names if not any(f"def {name}(" in text for text in texts)]
    assert missing == []
