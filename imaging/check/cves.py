"""Known vulnerabilities of the components of an SBOM, from OSV files, without a network.

The folder contains JSON files, or archives of them as OSV publishes them (all.zip).

A distribution fixes vulnerabilities in old versions (backports), so its versions are compared, in its own order, with
those that it declares fixed; the upstream version number is not used. Ranges are evaluated as the OSV schema
specifies (https://ossf.github.io/osv-schema/#evaluation). Undecidable findings are reported as such. A VEX document
(OpenVEX) states which findings do not affect the product, and why.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from imaging.check.types import InvalidCheckInput
from imaging.repository.debian_versions import compare_debian
from imaging.repository.versions import Evr, compare

CveVerdict: TypeAlias = Literal["affected", "undecided", "not affected"]
ECOSYSTEMS: Final = {"rpm": ("Red Hat", "AlmaLinux", "Rocky Linux"), "deb": ("Debian",), "pypi": ("PyPI",)}
"""OSV's ecosystems for each type of package URL; those of distributions may be followed by a colon and a release."""

Order: TypeAlias = Callable[[str, str], int]
"""Compares two versions: negative if the first is older."""

_CVES: Final = ("aliases", "upstream", "related")
"""The fields in which entries name their CVEs: Debian and Red Hat in `upstream`, AlmaLinux in `related`."""


@dataclass(frozen=True)
class SbomComponent:
    """A package of an SBOM; `kind` is the type of its package URL. `version` includes an epoch that is not 0."""

    kind: str
    name: str
    version: str
    url: str
    source: str = ""
    """The source package, if the package URL has it: entries of Debian and Rocky Linux are about source packages."""
    source_version: str = ""
    """The version of the source package, which differs from `version` for rebuilt packages."""


@dataclass(frozen=True)
class CveFinding:
    """A vulnerability of a component; `fixed` lists the versions that fix it.

    `reason` is that of the VEX document, or states why no decision is possible.
    """

    vulnerability: str
    component: SbomComponent
    fixed: str
    verdict: CveVerdict
    reason: str = ""


def read_components(sbom: Path) -> list[SbomComponent]:
    """Return the packages of an SBOM (SPDX JSON) that have a package URL. Raises: InvalidCheckInput."""
    packages = _read(sbom, "an SBOM in SPDX JSON").get("packages", [])
    urls = [ref["referenceLocator"] for one in packages for ref in one.get("externalRefs", [])]
    return [_component(url) for url in urls if url.startswith("pkg:")]


def scan_components(
    components: Iterable[SbomComponent], folder: Path, vex: Path | None = None, release: str = ""
) -> list[CveFinding]:
    """Return the vulnerabilities of the components, from all JSON files below the folder.

    With `release` ("AlmaLinux:9"), packages of a distribution are compared only with entries of that ecosystem.
    Raises: InvalidCheckInput.
    """
    by_name: dict[tuple[str, str], list[SbomComponent]] = {}
    for one in components:
        for name in {one.name, one.source or one.name}:
            by_name.setdefault((one.kind, name), []).append(one)
    findings = [finding for entry in _entries(folder) for finding in _findings(entry, by_name, release)]
    reasons = _statements(vex) if vex else {}
    return [_with_vex(one, reasons) for one in dict.fromkeys(findings)]


def _entries(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of all JSON files and archives below a folder. Raises: InvalidCheckInput."""
    files = sorted((*folder.rglob("*.json"), *folder.rglob("*.zip")))
    if not files:
        raise InvalidCheckInput(f"{folder}: has neither JSON files nor archives; give a folder with OSV data")
    for file in files:
        if file.suffix == ".json":
            yield _read(file, "OSV data")
            continue
        try:
            with zipfile.ZipFile(file) as archive:
                for name in archive.namelist():
                    if name.endswith(".json"):
                        yield _parse(archive.read(name), f"{file}: {name}", "OSV data")
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
            raise InvalidCheckInput(f"{file}: is not an archive of OSV data: {error}") from None


def _component(url: str) -> SbomComponent:
    parts = urlsplit(url)
    path, _, version = unquote(parts.path).rpartition("@")
    kind, _, name = path.partition("/")
    qualifiers = parse_qs(parts.query)
    epoch = qualifiers.get("epoch", ["0"])[0]
    version = version if epoch == "0" else f"{epoch}:{version}"
    upstream = qualifiers.get("upstream", [""])[0]  # as syft writes it: a source RPM, or NAME@VERSION
    source, _, source_version = upstream.partition("@")
    if upstream.endswith(".src.rpm"):
        source = upstream.rsplit("-", 2)[0]
    name = canonicalize_name(name) if kind == "pypi" else name.rpartition("/")[2]
    return SbomComponent(kind, name, version, url, source, source_version or version)


def _findings(
    entry: dict[str, Any], by_name: dict[tuple[str, str], list[SbomComponent]], release: str
) -> Iterator[CveFinding]:
    if "withdrawn" in entry:
        return
    named = ([one for one in entry.get(key, []) if one.startswith("CVE-")] for key in _CVES)
    idents = next(filter(None, named), [entry.get("id", "without id")])
    for affected in entry.get("affected", []):
        package = affected.get("package", {})
        ecosystem, name = package.get("ecosystem", ""), package.get("name", "")
        kind = next((kind for kind, names in ECOSYSTEMS.items() if ecosystem.partition(":")[0] in names), "")
        if kind != "pypi" and release and ecosystem != release and not ecosystem.startswith(f"{release}:"):
            continue
        for component in by_name.get((kind, canonicalize_name(name) if kind == "pypi" else name), []):
            version = component.source_version if name == component.source else component.version
            if decided := _decide(component.kind, version, affected):
                verdict, reason = decided
                fixed = _fixed(affected)
                yield from (CveFinding(ident, component, fixed, verdict, reason) for ident in idents)


def _decide(kind: str, version: str, affected: dict[str, Any]) -> tuple[CveVerdict, str] | None:
    """Return the verdict for a version, with the reason if it is undecided; None if the version is not affected."""
    if version in affected.get("versions", []):
        return "affected", ""
    ranges = [one for one in affected.get("ranges", []) if one.get("type") == "ECOSYSTEM"]
    try:
        is_within = any(is_in_range(version, one.get("events", []), ORDERS[kind]) for one in ranges)
    except InvalidVersion as error:
        return "undecided", f"a version cannot be compared: {error}"
    return ("affected", "") if is_within else None


def is_in_range(version: str, events: Iterable[dict[str, str]], order: Order) -> bool:
    """Return whether a version is in a range of OSV, regardless of the order of its events.

    "0" is before every version, and a limit of "*" after every one.
    """
    bounds = [(kind, text) for event in events for kind, text in event.items()]
    limits = [text for kind, text in bounds if kind == "limit"]
    if limits and not any(text == "*" or order(version, text) < 0 for text in limits):
        return False

    def compare(one: tuple[str, str], other: tuple[str, str]) -> int:
        if "0" in (one[1], other[1]):
            return (one[1] != "0") - (other[1] != "0")
        return order(one[1], other[1])

    inside = False
    for kind, text in sorted(bounds, key=cmp_to_key(compare)):
        if kind == "introduced" and (text == "0" or order(version, text) >= 0):
            inside = True
        elif (kind == "fixed" and order(version, text) >= 0) or (
            kind == "last_affected" and order(version, text) > 0
        ):
            inside = False
    return inside


def _rpm_order(left: str, right: str) -> int:
    return compare(_evr(left), _evr(right))


def _evr(text: str) -> Evr:
    epoch, colon, rest = text.partition(":")
    version, _, release = (rest if colon else text).partition("-")
    return Evr(int(epoch) if colon and epoch.isdecimal() else 0, version, release)


def _python_order(left: str, right: str) -> int:
    one, other = Version(left), Version(right)
    return (one > other) - (one < other)


ORDERS: Final[dict[str, Order]] = {"rpm": _rpm_order, "deb": compare_debian, "pypi": _python_order}
"""The order of versions for a type of package URL."""


def _fixed(affected: dict[str, Any]) -> str:
    events = [event for one in affected.get("ranges", []) for event in one.get("events", [])]
    return ", ".join(event["fixed"] for event in events if "fixed" in event)


def _statements(vex: Path) -> dict[tuple[str, str], str]:
    """Return the reasons by vulnerability and package URL; "" stands for every package."""
    reasons: dict[tuple[str, str], str] = {}
    for one in _read(vex, "an OpenVEX document").get("statements", []):
        if one.get("status") in ("not_affected", "fixed"):
            reason = (
                " ".join(filter(None, (one.get("justification"), one.get("impact_statement"))))
                or one["status"]
            )
            products = [product.get("@id", "") for product in one.get("products", [])] or [""]
            name = one.get("vulnerability", {}).get("name", "")
            reasons |= {(name, product): reason for product in products}
    return reasons


def _with_vex(finding: CveFinding, reasons: dict[tuple[str, str], str]) -> CveFinding:
    for product in (finding.component.url, finding.component.url.partition("?")[0], ""):
        if reason := reasons.get((finding.vulnerability, product)):
            return CveFinding(finding.vulnerability, finding.component, finding.fixed, "not affected", reason)
    return finding


def _read(file: Path, what: str) -> dict[str, Any]:
    try:
        return _parse(file.read_bytes(), str(file), what)
    except OSError as error:
        raise InvalidCheckInput(f"{file}: is not {what}: {error}") from None


def _parse(data: bytes, where: str, what: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise InvalidCheckInput(f"{where}: is not {what}: {error}") from None
    if not isinstance(content, dict):
        raise InvalidCheckInput(f"{where}: is not {what}: it is not a JSON object")
    return content
