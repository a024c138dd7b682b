"""Hardening of a box's image, evaluated with published SCAP content: `python -m bench.image.stig [--json]`.

The profiles are the STIG's, CIS's for servers (level 2), ANSSI's (high) and OSPP of the installed content. The
environment variable RAP_SCAP_CONTENT names more data streams, separated by spaces, each with a profile:
`RAP_SCAP_CONTENT=disa-stig-rhel9.xml=MAC-1_Classified`.

The image is built from the box's own kickstart with packages of the mock repository, and evaluated by `rap image
check --mock-repo`. Rules that these packages cannot pass are listed, counted and excluded. Needs root, and the
packages of `make setup-image`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from bench.figures import Figure, figure, run
from tests.support.imaging.first_report import build_image

FOLDER: Final = Path("build/bench-stig")
PROFILES: Final = ("stig", "cis", "anssi_bp28_high", "ospp")
OTHER_POLICY: Final = frozenset({"configure_crypto_policy"})
"""High-severity rules on which the profiles contradict each other: CIS requires the cryptographic policy DEFAULT,
OSPP requires FIPS:OSPP, and the STIG requires FIPS, which a box has."""


def figures() -> list[Figure]:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        image = build_image(FOLDER)
        found = [one for profile in PROFILES for one in compare(profile, judged(image, "--profile", profile))]
        for word in os.environ.get("RAP_SCAP_CONTENT", "").split():
            content, _, profile = word.rpartition("=")
            words = ("--content", content, "--profile", profile)
            found += compare(f"{Path(content).stem}, {profile}", judged(image, *words))
        return found
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


def judged(image: Path, *words: str) -> dict[str, Any]:
    """The JSON document of `rap image check`."""
    command = [sys.executable, "-m", "rap", "image", "check", str(image), "--mock-repo", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(done.stderr)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def compare(name: str, document: dict[str, Any]) -> list[Figure]:
    counts = document["counts"]
    unexplained = [one for one in document["fails"] if not one["reason"]]
    high = [one["rule"] for one in document["fails"] if one["severity"] == "high"]
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
