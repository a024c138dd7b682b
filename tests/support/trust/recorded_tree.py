"""The files of a built image that facts are computed from.

`tests/fixtures/trust/image-evidence.json.gz` is what `rap trust evidence --tree` found in the image that
tests/imaging/check builds.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Final

from tests.support.paths import FIXTURES
from trust.evidence import Evidence, decode_evidence

RECORDED: Final = FIXTURES / "trust/image-evidence.json.gz"


def recorded_evidence() -> list[Evidence]:
    """Return the evidence of the built image."""
    return decode_evidence(gzip.decompress(RECORDED.read_bytes()))


def recorded_tree(folder: Path) -> Path:
    """Write the image's files and links below the folder, and return it."""
    evidence = recorded_evidence()
    for one in evidence:
        if one.kind == "file":
            place = folder / one.source.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(one.text, "utf-8")
    listed = (
        line.partition(" -> ") for one in evidence if one.kind == "paths" for line in one.text.splitlines()
    )
    for path, arrow, target in listed:
        place = folder / path.lstrip("/")
        if arrow and not place.is_symlink():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
    return folder
