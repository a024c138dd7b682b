"""Writes docs/reference/openapi.json, the description of the API; `make golden` runs it.

A change that breaks programs is not written, unless the API has a new version, or `ACCEPTED` names the change as this
program prints it, with the reason.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from datacenter.web.api.openapi import openapi
from datacenter.web.pages import ROUTES
from tools.api_changes import breaking_changes

PAGE: Final = Path("docs/reference/openapi.json")
ACCEPTED: Final[dict[str, str]] = {}
"""Breaking changes since the committed document, each with the reason why no program depends on the old behavior."""


def render() -> str:
    """Return the document."""
    return json.dumps(openapi(ROUTES), indent=1) + "\n"


def refused_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the breaking changes that are not accepted."""
    return [one for one in breaking_changes(before, after) if one not in ACCEPTED]


def main() -> int:
    """Write the document; return 1 if it would break programs."""
    after = render()
    before = json.loads(PAGE.read_text("utf-8")) if PAGE.exists() else json.loads(after)
    if refused := refused_changes(before, json.loads(after)):
        text = "\n".join(f"  {one}" for one in refused)
        print(
            f"{PAGE}: not written, because these changes break programs that use the API:\n{text}\n"
            "Undo them, add routes of a new version, or enter them with reasons in ACCEPTED of "
            "tools/api_reference.py",
            file=sys.stderr,
        )
        return 1
    PAGE.write_text(after, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
