"""The files of a built image from which facts are computed.

`tests/fixtures/trust/image-evidence.json.gz` is the evidence that `rap trust evidence --tree` collected from the
image that tests/imaging/check builds.
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
    return list({item.id: item for item in (*recorded, listed, *current)}.values())


def recorded_tree(folder: Path) -> Path:
    """Write the image's files and links into the folder, and return it."""
    evidence = recorded_evidence()
    for item in evidence:
        if item.kind == "file":
            file = folder / item.source.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(item.text, "utf-8")
    listed = (
        line.partition(" -> ") for item in evidence if item.kind == "paths" for line in item.text.splitlines()
    )
    for path, arrow, target in listed:
        link = folder / path.lstrip("/")
        if arrow and not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
    return folder
