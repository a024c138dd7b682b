"""Hardening of a box's image, evaluated with published SCAP content: `python -m bench.image.stig [--json]`.

The profiles are the STIG's, CIS's for servers (level 2), ANSSI's (high) and OSPP of the installed content. The
environment variable RAP_SCAP_CONTENT names more data streams for RHEL 9 or 10, separated by spaces, each with a
profile: `RAP_SCAP_CONTENT=disa-stig-rhel9.xml=MAC-1_Classified`.

An image for each release is built from the box's own kickstart with packages of the mock repository, and evaluated by
`rap image check --mock-repo`. Rules that these packages cannot pass are listed, counted and excluded. Needs root, and
the packages of `make setup-image`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

from bench.figures import Figure, figure, run
from imaging.check.content import read_benchmark
from tests.support.imaging.starts.first_report import build_delivered

FOLDER: Final = Path("build/bench-stig")
PROFILES: Final = ("stig", "cis", "anssi_bp28_high", "ospp")
OTHER_POLICY: Final = frozenset({"configure_crypto_policy"})
"""High-severity rules on which the profiles contradict each other: CIS requires the cryptographic policy DEFAULT,
OSPP requires FIPS:OSPP, ComplianceAsCode's STIG for RHEL 9 since 0.1.74 FIPS:STIG, and DISA's own FIPS, which a box
has."""
_RELEASE: Final = re.compile(r"RHEL[-_](\d+)")


def figures() -> list[Figure]:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        image = image_of("rhel9")
        measured = [
            line
            for profile in PROFILES
            for line in compare(profile, check_image(image, "--profile", profile))
        ]
        for entry in os.environ.get("RAP_SCAP_CONTENT", "").split():
            content, _, profile = entry.rpartition("=")
            image = image_of(release_of(Path(content)))
            options = ("--content", content, "--profile", profile)
            measured += compare(f"{Path(content).stem}, {profile}", check_image(image, *options))
        return measured
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


@cache
def image_of(release: str) -> Path:
    (folder := FOLDER / release).mkdir()
    return build_delivered(folder, release)


def release_of(content: Path) -> str:
    """Return the release that a data stream is for, such as "rhel9"."""
    identifier = read_benchmark(content).identifier
    if not (release := _RELEASE.search(identifier)):
        sys.exit(f"RAP_SCAP_CONTENT: {content}: is for {identifier}; give a data stream for RHEL 9 or 10")
    return f"rhel{release[1]}"


def check_image(image: Path, *options: str) -> dict[str, Any]:
    """Return the JSON document of `rap image check` for an image; `options` are further arguments."""
    command = [sys.executable, "-m", "rap", "image", "check", str(image), "--mock-repo", "--json", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode not in (0, 1):
        sys.exit(result.stderr)
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def compare(name: str, document: dict[str, Any]) -> list[Figure]:
    counts = document["counts"]
    unexplained = [rule for rule in document["fails"] if not rule["reason"]]
    high = [rule["rule"] for rule in document["fails"] if rule["severity"] == "high"]
    contradicting = [rule for rule in high if rule in OTHER_POLICY]
    return [
        *(
            figure(f"{name}: rules, {severity}: {verdict}", "", counts[severity][verdict])
            for severity in counts
            for verdict in counts[severity]
        ),
        figure(f"{name}: high-severity rules that fail", "", len(high)),
        *(
            figure(f"{name}: of these, contradicting the STIG's cryptographic policy FIPS: {rule}", "", 1)
            for rule in contradicting
        ),
        figure(
            f"{name}: high-severity rules that fail otherwise", "", len(high) - len(contradicting), "<= 0"
        ),
        figure(f"{name}: share of the decided rules that pass", "%", 100 * document["passed_share"]),
        figure(f"{name}: failed rules without a recorded reason", "", len(unexplained), "<= 0"),
        figure(f"{name}: stale reasons", "", len(document["stale"]), "<= 0"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
