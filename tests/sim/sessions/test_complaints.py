"""Each complaint about other products has a test, which the design note names."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

PAGE = ROOT / "docs/design/sessions.md"
COMPLAINTS = 19


def test_each_complaint_names_tests_that_exist() -> None:
    rows = PAGE.read_text().partition("## Complaints about other products")[2].splitlines()
    named = [re.findall(r"`(test_\w+)`", row) for row in rows if "`test_" in row]
    assert len(named) == COMPLAINTS
    texts = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    missing = [name for names in named for name in names if not any(f"def {name}(" in text for text in texts)]
    assert missing == []
