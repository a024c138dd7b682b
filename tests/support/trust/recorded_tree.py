"""The files of a built image that facts are computed from.

`tests/fixtures/trust/image-evidence.json.gz` is what `rap trust evidence --tree` found in the image that
tests/imaging/check builds.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Final

from tests.support.paths import FIXTURES, ROOT
from trust.evidence import Evidence, capture, decode_evidence
from trust.facts.messages import INSTALLED

RECORDED: Final = FIXTURES / "trust/image-evidence.json.gz"


def recorded_evidence() -> list[Evidence]:
    """Return the evidence of the built image, with the current files of the box's package."""
    recorded = decode_evidence(gzip.decompress(RECORDED.read_bytes()))
    names = "".join(
        f"{INSTALLED}/profiles/{file.name}\n" for file in sorted((ROOT / "profiles").glob("*.toml"))
    )
    listed = capture("paths", f"{INSTALLED}/profiles/*.toml", names, recorded[0].at)
    files = [
        "wire/messages.py",
        "wire/audit_events.py",
        *(f"profiles/{Path(name).name}" for name in names.split()),
    ]
    current = [
        capture("file", f"{INSTALLED}/{name}", (ROOT / name).read_text("utf-8"), recorded[0].at)
        for name in files
    ]
    return list({one.id: one for one in (*recorded, listed, *current)}.values())


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
