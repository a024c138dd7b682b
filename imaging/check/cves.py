"""Known vulnerabilities of the components of an SBOM, from a folder of OSV files, without a network.

A distribution corrects old versions (backports), so its versions are compared in its own order with the versions that
it says are fixed; the number of the upstream version decides nothing. What cannot be decided is reported as such. A
VEX document (OpenVEX) says which findings do not concern the product, and why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from imaging.check.types import InvalidCheckInput
from imaging.repository.debian_versions import compare_debian
from imaging.repository.versions import Evr, compare

CveVerdict: TypeAlias = Literal["affected", "undecided", "not affected"]
ECOSYSTEMS: Final = {"rpm": ("Red Hat", "AlmaLinux", "Rocky Linux"), "deb": ("Debian",), "pypi": ("PyPI",)}
"""The ecosystems of OSV for a type of package URL; those of distributions may have a release after a colon."""


@dataclass(frozen=True)
class Component:
    """A package of an SBOM; `kind` is the type of its package URL. `version` includes an epoch that is not 0."""

    kind: str
    name: str
    version: str
    url: str


@dataclass(frozen=True)
class CveFinding:
    """A vulnerability of a component; `reason` is that of the VEX document, or why nothing is decided."""

    vulnerability: str
    component: Component
    fixed: str
    verdict: CveVerdict
    reason: str = ""


def read_components(sbom: Path) -> list[Component]:
    """Return the packages of an SBOM (SPDX JSON) that have a package URL. Raises: InvalidCheckInput."""
    packages = _read(sbom, "an SBOM in SPDX JSON").get("packages", [])
    urls = [ref["referenceLocator"] for one in packages for ref in one.get("externalRefs", [])]
    return [_component(url) for url in urls if url.startswith("pkg:")]


def scan_components(
    components: Iterable[Component], folder: Path, vex: Path | None = None, release: str = ""
) -> list[CveFinding]:
    """Return the vulnerabilities of the components, from all JSON files below the folder.

    With `release` ("AlmaLinux:9"), only entries of that ecosystem count for packages of a distribution.
    Raises: InvalidCheckInput.
    """
    by_name: dict[tuple[str, str], list[Component]] = {}
    for one in components:
        by_name.setdefault((one.kind, one.name), []).append(one)
    files = sorted(folder.rglob("*.json"))
    if not files:
        raise InvalidCheckInput(f"{folder}: has no JSON file; give a folder with unpacked OSV data")
    found = [finding for file in files for finding in _findings(_read(file, "OSV data"), by_name, release)]
    reasons = _statements(vex) if vex else {}
    return [_with_vex(one, reasons) for one in dict.fromkeys(found)]


def _component(url: str) -> Component:
    parts = urlsplit(url)
    path, _, version = unquote(parts.path).rpartition("@")
    kind, _, name = path.partition("/")
    epoch = parse_qs(parts.query).get("epoch", ["0"])[0]
    return Component(kind, name.rpartition("/")[2], version if epoch == "0" else f"{epoch}:{version}", url)


def _findings(
    entry: dict[str, Any], by_name: dict[tuple[str, str], list[Component]], release: str
) -> Iterator[CveFinding]:
    ident = next(
        (one for one in entry.get("aliases", []) if one.startswith("CVE-")), entry.get("id", "without id")
    )
    for affected in entry.get("affected", []):
        package = affected.get("package", {})
        ecosystem, name = package.get("ecosystem", ""), package.get("name", "")
        kind = next((kind for kind, names in ECOSYSTEMS.items() if ecosystem.partition(":")[0] in names), "")
        if kind != "pypi" and release and ecosystem != release and not ecosystem.startswith(f"{release}:"):
            continue
        for component in by_name.get((kind, name.lower() if kind == "pypi" else name), []):
            if finding := _decide(ident, component, affected):
                yield finding


def _decide(ident: str, component: Component, affected: dict[str, Any]) -> CveFinding | None:
    if component.version in affected.get("versions", []):
        return CveFinding(ident, component, _fixed(affected), "affected")
    order = _ORDERS.get(component.kind)
    ranges = [one for one in affected.get("ranges", []) if one.get("type") == "ECOSYSTEM"]
    if ranges and order is None and not affected.get("versions"):
        return CveFinding(
            ident, component, _fixed(affected), "undecided", "the order of its versions is unknown here"
        )
    if order and any(_within(component.version, one.get("events", []), order) for one in ranges):
        return CveFinding(ident, component, _fixed(affected), "affected")
    return None


def _within(version: str, events: list[dict[str, str]], order: Callable[[str, str], int]) -> bool:
    inside = False
    for event in events:
        if "introduced" in event:
            inside = inside or event["introduced"] == "0" or order(version, event["introduced"]) >= 0
            continue
        fixed = "fixed" in event and order(version, event["fixed"]) >= 0
        later = "last_affected" in event and order(version, event["last_affected"]) > 0
        inside = inside and not (fixed or later)
    return inside


def _rpm_order(left: str, right: str) -> int:
    return compare(_evr(left), _evr(right))


def _evr(text: str) -> Evr:
    epoch, colon, rest = text.partition(":")
    version, _, release = (rest if colon else text).partition("-")
    return Evr(int(epoch) if colon and epoch.isdecimal() else 0, version, release)


_ORDERS: Final[dict[str, Callable[[str, str], int]]] = {"rpm": _rpm_order, "deb": compare_debian}


def _fixed(affected: dict[str, Any]) -> str:
    events = [event for one in affected.get("ranges", []) for event in one.get("events", [])]
    return ", ".join(event["fixed"] for event in events if "fixed" in event)


def _statements(vex: Path) -> dict[tuple[str, str], str]:
    """Return the reasons by vulnerability and package URL; "" stands for every package."""
    found: dict[tuple[str, str], str] = {}
    for one in _read(vex, "an OpenVEX document").get("statements", []):
        if one.get("status") in ("not_affected", "fixed"):
            reason = (
                " ".join(filter(None, (one.get("justification"), one.get("impact_statement"))))
                or one["status"]
            )
            products = [product.get("@id", "") for product in one.get("products", [])] or [""]
            found |= {(one.get("vulnerability", {}).get("name", ""), product): reason for product in products}
    return found


def _with_vex(finding: CveFinding, reasons: dict[tuple[str, str], str]) -> CveFinding:
    for product in (finding.component.url, finding.component.url.partition("?")[0], ""):
        if reason := reasons.get((finding.vulnerability, product)):
            return CveFinding(finding.vulnerability, finding.component, finding.fixed, "not affected", reason)
    return finding


def _read(file: Path, what: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidCheckInput(f"{file}: is not {what}: {error}") from None
    if not isinstance(content, dict):
        raise InvalidCheckInput(f"{file}: is not {what}: it is no JSON object")
    return content
