"""The golden rulesets, rendered from each policy of tests/fixtures/policies as a file for `nft -f`.

    python -m tests.support.netfw.golden

regenerates them; review the diff before committing it. tests/netfw/ruleset/test_render.py checks on a kernel that
the text and the JSON load the same ruleset.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from netfw.policy.policyfile import load_policy
from netfw.ruleset.render import render
from netfw.ruleset.text import ruleset_text
from tests.support.paths import FIXTURES

FOLDER: Final = FIXTURES / "golden/rulesets"
POLICIES: Final = FIXTURES / "policies"


def goldens() -> Iterator[tuple[Path, str]]:
    """Yield each golden file with its content."""
    for file in sorted(POLICIES.glob("*.toml")):
        yield FOLDER / f"{file.stem}.nft", ruleset_text(render(load_policy(file)))


def main() -> None:
    """Write all golden files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in goldens():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
