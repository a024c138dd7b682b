"""Known vulnerabilities: backported fixes count, versions have the package manager's order, VEX gives reasons."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from functools import cmp_to_key
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
from packaging.version import Version

from imaging.build.packages import InstalledPackage
from imaging.build.sbom import render
from imaging.check.cves import ORDERS, CveFinding, is_in_range, read_components, scan_components
from imaging.check.types import InvalidCheckInput
from rap.__main__ import main
from rap.outcome import FAILED, OK, WRONG_INPUT
from tests.support.paths import FIXTURES

ALMA = "AlmaLinux:9"


def osv(
    folder: Path, ident: str, name: str, *events: dict[str, str], ecosystem: str = ALMA, **more: Any
) -> None:
    """Write an OSV entry about the package `name` with one range of these events; `more` are further keys."""
    folder.mkdir(exist_ok=True)
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    affected = [{"package": {"ecosystem": ecosystem, "name": name}, "ranges": ranges, **more}]
    withdrawn = {"withdrawn": more["withdrawn"]} if "withdrawn" in more else {}
    (folder / f"{ident}.json").write_text(json.dumps({"id": ident, "affected": affected, **withdrawn}))


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
    """Return the findings by vulnerability."""
    return {one.vulnerability: one for one in scan_components(read_components(sbom), folder, vex, ALMA)}


def test_trivy_3576_a_backported_fix_counts_and_an_older_release_is_affected(
    sbom: Path, tmp_path: Path
) -> None:
    data, zero = tmp_path / "osv", {"introduced": "0"}
    osv(data, "CVE-2023-0001", "openssl-libs", zero, {"fixed": "1:3.0.7-24.el9"})
    osv(data, "CVE-2023-0002", "openssl-libs", zero, {"fixed": "1:3.0.7-28.el9"})
    osv(
        data, "CVE-2023-0003", "openssl-libs", zero, {"fixed": "3.0.9-1.el9"}
    )  # epoch 0 is older than epoch 1
    osv(data, "CVE-2023-0004", "openssl-libs", zero, {"fixed": "1:3.0.7-100.el9"}, ecosystem="AlmaLinux:8")
    osv(data, "CVE-2023-0005", "bash", {"introduced": "5.2"}, {"fixed": "5.2.1"})
    findings = scan(sbom, data)
    assert list(findings) == ["CVE-2023-0002"]
    assert (findings["CVE-2023-0002"].verdict, findings["CVE-2023-0002"].fixed) == (
        "affected",
        "1:3.0.7-28.el9",
    )


def test_python_packages_are_decided_by_listed_versions_and_ranges(sbom: Path, tmp_path: Path) -> None:
    data, zero = tmp_path / "osv", {"introduced": "0"}
    osv(data, "GHSA-1", "msgspec", ecosystem="PyPI", versions=["0.18.0", "0.19.0"])
    osv(data, "GHSA-2", "msgspec", ecosystem="PyPI", versions=["0.18.0"])
    osv(data, "GHSA-3", "MsgSpec", zero, {"fixed": "0.20"}, ecosystem="PyPI")
    osv(data, "GHSA-4", "msgspec", zero, {"fixed": "0.19.0rc1"}, ecosystem="PyPI")
    osv(data, "GHSA-5", "msgspec", zero, {"fixed": "newest"}, ecosystem="PyPI")
    osv(data, "GHSA-6", "msgspec", zero, ecosystem="PyPI", withdrawn="2024-06-01T00:00:00Z")
    findings = scan(sbom, data)
    assert {ident: one.verdict for ident, one in findings.items()} == {
        "GHSA-1": "affected",
        "GHSA-3": "affected",
        "GHSA-5": "undecided",
    }
    assert "newest" in findings["GHSA-5"].reason


COMPONENTS = [
    "pkg:pypi/jinja2@3.1.2",
    "pkg:deb/debian/libssl3@3.0.11-1~deb12u1?arch=amd64&upstream=openssl&distro=debian-12",
    "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64&distro=debian-12",
    "pkg:rpm/redhat/openssh-server@8.7p1-38.el9?arch=x86_64&upstream=openssh-8.7p1-38.el9.src.rpm",
    "pkg:rpm/redhat/openssh@8.7p1-38.el9_4.1?arch=x86_64",
    "pkg:rpm/almalinux/openssl-libs@3.0.7-27.el9?arch=x86_64&epoch=1&upstream=openssl-3.0.7-27.el9.src.rpm",
]


def test_entries_about_source_packages_are_compared_with_their_version(tmp_path: Path) -> None:
    url = "pkg:deb/debian/dmsetup@1.02.185-2?epoch=2&upstream=lvm2%402.03.16-2"
    components = read_components(write_sbom(tmp_path / "box.spdx", url))
    osv(tmp_path, "CVE-1", "lvm2", {"introduced": "0"}, {"fixed": "2.03.17-1"}, ecosystem="Debian:12")
    osv(tmp_path, "CVE-2", "lvm2", {"introduced": "0"}, {"fixed": "2.03.16-2"}, ecosystem="Debian:12")
    assert [one.vulnerability for one in scan_components(components, tmp_path)] == ["CVE-1"]


def write_sbom(file: Path, *urls: str) -> Path:
    refs = [
        {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": url}
        for url in urls
    ]
    file.write_text(json.dumps({"packages": [{"externalRefs": [ref]} for ref in refs]}))
    return file


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("Debian:12", {("CVE-2023-5363", "libssl3")}),
        ("Debian:13", {("CVE-2023-5363", "libssl3"), ("CVE-2023-5363", "openssl")}),
        ("Red Hat:enterprise_linux:9", {("CVE-2024-6387", "openssh-server")}),
        ("AlmaLinux:9", {("CVE-2023-0002", "openssl-libs"), ("CVE-2023-0003", "openssl-libs")}),
        ("Rocky Linux:9", {("CVE-2023-0002", "openssl-libs")}),
    ],
)
def test_records_as_osv_publishes_them(tmp_path: Path, release: str, expected: set[tuple[str, str]]) -> None:
    sbom = write_sbom(tmp_path / "box.spdx.json", *COMPONENTS)
    findings = scan_components(read_components(sbom), FIXTURES / "osv", None, release)
    assert {(one.vulnerability, one.component.name) for one in findings} == {
        *expected,
        ("CVE-2024-22195", "jinja2"),
    }


def test_archives_are_read_as_published(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(FIXTURES / "osv/GHSA-h5c8-rqwp-cp95.json", "GHSA-h5c8-rqwp-cp95.json")
    components = read_components(write_sbom(tmp_path / "box.spdx", *COMPONENTS))
    assert [one.vulnerability for one in scan_components(components, tmp_path)] == ["CVE-2024-22195"]
    (tmp_path / "all.zip").write_bytes((tmp_path / "all.zip").read_bytes()[:300])
    with pytest.raises(InvalidCheckInput, match="not an archive"):
        scan_components(components, tmp_path)


# Each oracle returns -1, 0 or 1 for every pair of versions.
def by_packaging(pairs: Sequence[tuple[str, str]]) -> list[int]:
    return [(Version(one) > Version(other)) - (Version(one) < Version(other)) for one, other in pairs]


def by_dpkg(pairs: Sequence[tuple[str, str]]) -> list[int]:
    script = "".join(
        f"dpkg --compare-versions '{one}' lt '{other}' && echo -1 ||"
        f" {{ dpkg --compare-versions '{one}' gt '{other}' && echo 1 || echo 0; }}\n"
        for one, other in pairs
    )
    return list(
        map(
            int,
            subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True).stdout.split(),
        )
    )


def by_rpm(pairs: Sequence[tuple[str, str]]) -> list[int]:
    calls = " ".join(
        f'print(rpm.ver("{one}") == rpm.ver("{other}") and 0 or'
        f' rpm.ver("{one}") < rpm.ver("{other}") and -1 or 1, "");'
        for one, other in pairs
    )
    done = subprocess.run(["rpm", "--eval", f"%{{lua: {calls}}}"], capture_output=True, text=True, check=True)
    return list(map(int, done.stdout.split()))


ORACLES = {"pypi": by_packaging, "deb": by_dpkg, "rpm": by_rpm}
VERSION_PARTS = {
    "pypi": (["1", "1.0", "1.0.1", "2", "0.9", "1!0.1"], ["", "a1", "rc1", ".post1", ".dev2", "+deb.1"]),
    "deb": (["1.0", "1.10", "1:0.9"], ["", "-1", "-1+deb12u1", "-1~deb12u1", "~rc1-1"]),
    "rpm": (
        ["1.0", "1.0.1", "1:0.9", "1.10", "8.7p1", "1.0^git1"],
        ["-1", "-1.el9", "-38.el9_4.1", "-2~rc1", "-10.el9"],
    ),
}


@pytest.mark.parametrize("kind", ORACLES)
def test_ranges_follow_the_package_managers_order_of_versions(kind: str) -> None:
    """The result for random ranges with unsorted events follows from the order that the tool itself reports."""
    if kind in ("deb", "rpm") and not shutil.which({"deb": "dpkg"}.get(kind, kind)):
        pytest.skip("needs the package manager")
    versions = ["".join(parts) for parts in product(*VERSION_PARTS[kind])]
    pairs = [(one, other) for one in versions for other in versions]
    known: dict[tuple[str, str], int] = dict(zip(pairs, ORACLES[kind](pairs), strict=True))

    def order(one: str, other: str) -> int:
        return known[one, other]

    assert {pair: (ORDERS[kind](*pair) > 0) - (ORDERS[kind](*pair) < 0) for pair in pairs} == known
    random = Random(5)
    for _ in range(500):
        version, *bounds = random.choices(versions, k=4)
        first, fixed, again = sorted(bounds, key=cmp_to_key(order))
        events = [{"introduced": first}, {"fixed": fixed}, {"introduced": again}]
        expected = known[version, first] >= 0 > known[version, fixed] or known[version, again] >= 0
        random.shuffle(events)
        if known[fixed, again] < 0 and known[first, fixed] < 0:
            assert is_in_range(version, events, ORDERS[kind]) == expected, (version, events)
        assert is_in_range(version, [{"last_affected": first}, {"introduced": "0"}], ORDERS[kind]) == (
            known[version, first] <= 0
        )
        limited = [{"introduced": "0"}, {"limit": fixed}]
        assert is_in_range(version, limited, ORDERS[kind]) == (known[version, fixed] < 0)


def test_a_vex_statement_gives_the_reason(
    sbom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, vex = tmp_path / "osv", tmp_path / "vex.json"
    osv(data, "CVE-2023-0002", "openssl-libs", {"introduced": "0"}, {"fixed": "1:3.0.7-28.el9"})
    arguments = ["trust", "cves", "--osv", str(data), "--sbom", str(sbom), "--release", ALMA]
    assert main(arguments) == FAILED
    assert "CVE-2023-0002" in capsys.readouterr().out
    statement = {
        "vulnerability": {"name": "CVE-2023-0002"},
        "products": [{"@id": "pkg:rpm/openssl-libs@3.0.7-27.el9"}],
        "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path",
    }
    vex.write_text(json.dumps({"@context": "https://openvex.dev/ns/v0.2.0", "statements": [statement]}))
    assert scan(sbom, data, vex)["CVE-2023-0002"].reason == "vulnerable_code_not_in_execute_path"
    assert main([*arguments, "--vex", str(vex), "--json"]) == OK
    statement["products"] = [{"@id": "pkg:rpm/bash@5.1.8-9.el9"}]
    vex.write_text(json.dumps({"statements": [statement]}))
    assert main([*arguments, "--vex", str(vex)]) == FAILED


def test_wrong_input_is_refused(sbom: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["trust", "cves", "--osv", str(tmp_path / "empty"), "--sbom", str(sbom)]) == WRONG_INPUT
    (tmp_path / "empty/wrong.json").write_text("[]")
    with pytest.raises(InvalidCheckInput, match="not a JSON object"):
        scan(sbom, tmp_path / "empty")


STATEMENTS = """
author = "The manufacturer <security@example.com>"

[[statement]]
vulnerability = "CVE-2024-6387"
package = "openssh-server"
status = "not_affected"
justification = "vulnerable_code_not_in_execute_path"
reason = "LoginGraceTime is 0"
"""


def test_a_vex_document_is_made_from_statements_beside_the_sbom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sbom, vex = write_sbom(tmp_path / "box.spdx.json", *COMPONENTS), tmp_path / "box.vex.json"
    (tmp_path / "box.vex.toml").write_text(STATEMENTS)
    assert main(["trust", "vex", "--sbom", str(sbom), "-o", str(vex)]) == OK
    document = json.loads(vex.read_text())
    assert document["@context"] == "https://openvex.dev/ns/v0.2.0"
    (statement,) = document["statements"]
    assert [one["@id"] for one in statement["products"]] == [COMPONENTS[3]]
    assert statement["justification"] == "vulnerable_code_not_in_execute_path"
    findings = scan_components(read_components(sbom), FIXTURES / "osv", vex, "Red Hat:enterprise_linux:9")
    assert {(one.vulnerability, one.verdict) for one in findings} == {
        ("CVE-2024-6387", "not affected"),
        ("CVE-2024-22195", "affected"),
    }


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('package = "openssh-server"', 'package = "openssh-serve"', "openssh-server"),
        ('justification = "vulnerable_code_not_in_execute_path"', "", "needs a justification"),
        ('"not_affected"', '"fixed"', "must not have a justification"),
        ('"not_affected"', '"harmless"', "status"),
        ('reason = "LoginGraceTime is 0"', "", "reason"),
    ],
)
def test_wrong_statements_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, text: str
) -> None:
    sbom = write_sbom(tmp_path / "box.spdx.json", *COMPONENTS)
    (tmp_path / "box.vex.toml").write_text(STATEMENTS.replace(old, new))
    assert main(["trust", "vex", "--sbom", str(sbom), "-o", str(tmp_path / "vex.json")]) == WRONG_INPUT
    assert text in capsys.readouterr().err
    assert not (tmp_path / "vex.json").exists()
