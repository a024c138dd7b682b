"""Facts from documents about a machine: the proof of its firewall, the scan of its hardening, its list of packages.

Each is the JSON of a command: `rap fw prove --json`, `rap image check --json`, and the SBOM of an image (SPDX).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from trust.evidence import Evidence
from trust.fact import Fact, fact
from trust.machine import ExaminedBox


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield the results that the given documents contain."""
    for kind, source in (("proof", _proof), ("hardening", _hardening), ("sbom", _sbom)):
        if (document := machine.document(kind)) and isinstance(content := _content(document), dict):
            try:
                yield from source(content, document)
            except (KeyError, TypeError, AttributeError):
                continue  # not that kind of document: no fact


def _content(document: Evidence) -> Any:
    try:
        return json.loads(document.text)
    except ValueError:
        return None


def _proof(content: dict[str, Any], document: Evidence) -> list[Fact]:
    theorems = [f"{'proved' if row['holds'] else 'REFUTED'}: {row['says']}" for row in content["theorems"]]
    return [
        fact("proof.theorems", theorems, document),
        fact("proof.assumptions", content["assumed"], document),
        fact("proof.not-covered", content["not_covered"], document),
    ]


def _hardening(content: dict[str, Any], document: Evidence) -> list[Fact]:
    counts = [
        f"{severity}: " + ", ".join(f"{number} {verdict}" for verdict, number in by_verdict.items())
        for severity, by_verdict in content["counts"].items()
    ]
    fails = [f"{row['severity']} {row['rule']}: {row['reason'] or 'NO REASON'}" for row in content["fails"]]
    return [
        fact(
            "hardening.verdict",
            f"{content['verdict']}, {content['passed_share']:.1%} of the rules pass",
            document,
        ),
        fact("hardening.counts", counts, document),
        fact("hardening.exceptions", fails, document),
    ]


def _sbom(content: dict[str, Any], document: Evidence) -> list[Fact]:
    components = [
        row for row in content["packages"] if row.get("primaryPackagePurpose") != "OPERATING-SYSTEM"
    ]
    without = [row["name"] for row in components if not row.get("versionInfo")]
    return [
        fact("sbom.format", content["spdxVersion"], document),
        fact("sbom.components", str(len(components)), document),
        fact("sbom.without-version", without, document),
    ]
