"""Makes a VEX document (OpenVEX 0.2.0) from a small file of statements about the packages of an SBOM.

```toml
author = "The manufacturer <security@example.com>"

[[statement]]
vulnerability = "CVE-2024-6387"
package = "openssh-server"            # as the SBOM names it; without it, the statement is about the whole product
status = "not_affected"               # or "affected", "fixed", "under_investigation"
justification = "vulnerable_code_not_in_execute_path"   # required for "not_affected"
reason = "LoginGraceTime is 0 in the box's configuration"
```
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta

from imaging.check.cves import SbomComponent, read_components
from imaging.check.types import InvalidCheckInput
from settings.problems import SettingsError
from settings.toml import load, nearest
from settings.types import Table

Justification: TypeAlias = Literal[
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
]
CONTEXT: Final = "https://openvex.dev/ns/v0.2.0"


class VexStatement(Table, frozen=True):
    """The status of a vulnerability for a package."""

    vulnerability: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9.:-]+\Z", examples=["CVE-2024-6387"])]
    status: Literal["not_affected", "affected", "fixed", "under_investigation"]
    reason: Annotated[str, Meta(min_length=1)]
    """An explanation for readers; with the status `affected`, the action to take."""
    package: str = ""
    justification: Justification | None = None


class VexFile(Table, frozen=True):
    """The file of statements."""

    author: Annotated[str, Meta(min_length=1)]
    statement: list[VexStatement]


def statements_beside(sbom: Path) -> Path:
    """Return the file of statements that belongs to an SBOM: box.vex.toml beside box.spdx.json."""
    return sbom.with_name(f"{sbom.name.partition('.')[0]}.vex.toml")


def make_vex(file: Path, sbom: Path) -> str:
    """Return the VEX document as JSON text; it has the SBOM's time. Raises: InvalidCheckInput."""
    try:
        statements_file = load(file, VexFile)
    except SettingsError as error:
        raise InvalidCheckInput(str(error)) from error
    components = read_components(sbom)
    created = json.loads(sbom.read_text("utf-8")).get("creationInfo", {}).get("created")
    statements = [_statement(one, components, file) for one in statements_file.statement]
    content = {"author": statements_file.author, "statements": statements}
    digest = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    document = {
        "@context": CONTEXT,
        "@id": f"https://openvex.dev/docs/public/vex-{digest}",
        "author": statements_file.author,
        "timestamp": created or f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "version": 1,
        "statements": statements,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _statement(one: VexStatement, components: list[SbomComponent], file: Path) -> dict[str, Any]:
    where = f"{file}: the statement about {one.vulnerability}"
    if (one.status == "not_affected") != (one.justification is not None):
        right = "needs a justification" if one.status == "not_affected" else "must not have a justification"
        raise InvalidCheckInput(f"{where}: a statement with the status {one.status} {right}")
    products = sorted({each.url for each in components if one.package == each.name})
    if one.package and not products:
        names = sorted({each.name for each in components})
        raise InvalidCheckInput(
            f"{where}: the SBOM has no package {one.package!r}; {nearest(one.package, names)}"
        )
    statement: dict[str, Any] = {"vulnerability": {"name": one.vulnerability}}
    if products:
        statement["products"] = [{"@id": url} for url in products]
    statement["status"] = one.status
    if one.justification:
        statement["justification"] = one.justification
    return statement | {("action_statement" if one.status == "affected" else "impact_statement"): one.reason}
