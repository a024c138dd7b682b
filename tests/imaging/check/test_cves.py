"""Known vulnerabilities: backports are fixed, versions are compared as the distribution does, VEX gives reasons."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from imaging.build.packages import InstalledPackage
from imaging.build.sbom import render
from imaging.check.cves import CveFinding, read_components, scan_components
from imaging.check.types import InvalidCheckInput
from imaging.repository.debian_versions import compare_debian
from rap.__main__ import main
from rap.outcome import FAILED, OK, WRONG_INPUT

ALMA = "AlmaLinux:9"


def osv(
    folder: Path, ident: str, name: str, *events: dict[str, str], ecosystem: str = ALMA, **more: Any
) -> None:
    folder.mkdir(exist_ok=True)
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    affected = [{"package": {"ecosystem": ecosystem, "name": name}, "ranges": ranges, **more}]
    (folder / f"{ident}.json").write_text(json.dumps({"id": ident, "affected": affected}))


@pytest.fixture
def sbom(tmp_path: Path) -> Path:
    packages = [
        InstalledPackage("openssl-libs", "1", "3.0.7-27.el9", "x86_64", "ASL 2.0", "0"),
        InstalledPackage("bash", "0", "5.1.8-9.el9", "x86_64", "GPLv3+", "1"),
    ]
    (tmp_path / "tree/msgspec-0.19.0.dist-info").mkdir(parents=True)
    file = tmp_path / "box.spdx.json"
    file.write_text(render("box", "0" * 64, packages, tmp_path / "tree", 0))
    return file


def scan(sbom: Path, folder: Path, vex: Path | None = None) -> dict[str, CveFinding]:
    return {one.vulnerability: one for one in scan_components(read_components(sbom), folder, vex, ALMA)}


def test_a_backported_correction_is_fixed_and_an_older_release_is_not(sbom: Path, tmp_path: Path) -> None:
    data, zero = tmp_path / "osv", {"introduced": "0"}
    osv(data, "CVE-2023-0001", "openssl-libs", zero, {"fixed": "1:3.0.7-24.el9"})
    osv(data, "CVE-2023-0002", "openssl-libs", zero, {"fixed": "1:3.0.7-28.el9"})
    osv(data, "CVE-2023-0003", "openssl-libs", zero, {"fixed": "3.0.9-1.el9"})  # of epoch 0, and so older
    osv(data, "CVE-2023-0004", "openssl-libs", zero, {"fixed": "1:3.0.7-100.el9"}, ecosystem="AlmaLinux:8")
    osv(data, "CVE-2023-0005", "bash", {"introduced": "5.2"}, {"fixed": "5.2.1"})
    found = scan(sbom, data)
    assert list(found) == ["CVE-2023-0002"]
    assert (found["CVE-2023-0002"].verdict, found["CVE-2023-0002"].fixed) == ("affected", "1:3.0.7-28.el9")


def test_python_packages_are_decided_by_the_listed_versions(sbom: Path, tmp_path: Path) -> None:
    data = tmp_path / "osv"
    osv(data, "GHSA-1", "msgspec", ecosystem="PyPI", versions=["0.18.0", "0.19.0"])
    osv(data, "GHSA-2", "msgspec", ecosystem="PyPI", versions=["0.18.0"])
    osv(data, "GHSA-3", "msgspec", {"introduced": "0"}, {"fixed": "0.20"}, ecosystem="PyPI")
    assert {ident: one.verdict for ident, one in scan(sbom, data).items()} == {
        "GHSA-1": "affected",
        "GHSA-3": "undecided",
    }


def test_a_vex_statement_gives_the_reason(
    sbom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, vex = tmp_path / "osv", tmp_path / "vex.json"
    osv(data, "CVE-2023-0002", "openssl-libs", {"introduced": "0"}, {"fixed": "1:3.0.7-28.el9"})
    words = ["trust", "cves", "--osv", str(data), "--sbom", str(sbom), "--release", ALMA]
    assert main(words) == FAILED
    assert "CVE-2023-0002" in capsys.readouterr().out
    statement = {
        "vulnerability": {"name": "CVE-2023-0002"},
        "products": [{"@id": "pkg:rpm/openssl-libs@3.0.7-27.el9"}],
        "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path",
    }
    vex.write_text(json.dumps({"@context": "https://openvex.dev/ns/v0.2.0", "statements": [statement]}))
    assert scan(sbom, data, vex)["CVE-2023-0002"].reason == "vulnerable_code_not_in_execute_path"
    assert main([*words, "--vex", str(vex), "--json"]) == OK
    statement["products"] = [{"@id": "pkg:rpm/bash@5.1.8-9.el9"}]
    vex.write_text(json.dumps({"statements": [statement]}))
    assert main([*words, "--vex", str(vex)]) == FAILED


def test_wrong_input_is_refused(sbom: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["trust", "cves", "--osv", str(tmp_path / "empty"), "--sbom", str(sbom)]) == WRONG_INPUT
    (tmp_path / "empty/wrong.json").write_text("[]")
    with pytest.raises(InvalidCheckInput, match="no JSON object"):
        scan(sbom, tmp_path / "empty")


VERSIONS = [
    "1.0",
    "1.0-1",
    "1.0-1+deb12u1",
    "1.0~rc1-1",
    "1:0.9-1",
    "1.0a-1",
    "1.0+b-1",
    "1.10-1",
    "1.9-1",
    "0-0",
    "1.0-1~bpo1",
]


def test_debian_versions_are_ordered_as_by_dpkg() -> None:
    if not shutil.which("dpkg"):
        pytest.skip("needs dpkg")
    for one in VERSIONS:
        for other in VERSIONS:
            order = compare_debian(one, other)
            relation = "lt" if order < 0 else "gt" if order > 0 else "eq"
            done = subprocess.run(["dpkg", "--compare-versions", one, relation, other], check=False)
            assert done.returncode == 0, (one, relation, other)
