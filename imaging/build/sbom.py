"""The software bill of materials of an image in SPDX 2.3 JSON (ISO/IEC 5962): its RPMs and Python packages.

The document is written without a library, because it consists of two lists and their relationships. Its time is the
image's time, and its namespace is derived from the hash of the image.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from imaging.build.packages import InstalledPackage


def render(name: str, image_sha256: str, packages: Sequence[InstalledPackage], tree: Path, epoch: int) -> str:
    """Return the SBOM of the image `name` with these packages, as JSON text.

    Without `image_sha256`, it describes a folder, and its namespace is derived from the packages.
    """
    entries = [_rpm(package) for package in packages] + [
        _python(*distribution) for distribution in sorted(_distributions(tree))
    ]
    digest = image_sha256 or hashlib.sha256(json.dumps(entries).encode()).hexdigest()
    image = {
        **_package("Image", name, digest[:16], "NOASSERTION", ""),
        "primaryPackagePurpose": "OPERATING-SYSTEM",
    }
    if image_sha256:
        image["checksums"] = [{"algorithm": "SHA256", "checksumValue": image_sha256}]
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{name}-{digest}",
        "creationInfo": {
            "created": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: rap-image-build"],
        },
        "packages": [image, *entries],
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": image["SPDXID"],
            },
            *(
                {
                    "spdxElementId": image["SPDXID"],
                    "relationshipType": "CONTAINS",
                    "relatedSpdxElement": entry["SPDXID"],
                }
                for entry in entries
            ),
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def _rpm(package: InstalledPackage) -> dict[str, Any]:
    epoch = f"&epoch={package.epoch}" if package.epoch != "0" else ""
    source = f"&upstream={quote(package.source)}" if package.source else ""
    url = f"pkg:rpm/{package.name}@{package.version}?arch={package.arch}{epoch}{source}"
    # before RHEL 10, RPM license tags are not SPDX expressions, so they go into a comment
    return _package(f"RPM-{package.name}-{package.arch}", package.name, package.version, package.license, url)


def _python(name: str, version: str) -> dict[str, Any]:
    return _package(
        f"PyPI-{name}-{version}", name, version, "", f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    )


def _package(ident: str, name: str, version: str, license: str, url: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", ident),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
    }
    if license not in ("", "NOASSERTION"):
        entry["licenseComments"] = f"The package's license tag: {license}"
    if url:
        entry["externalRefs"] = [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": url}
        ]
    return entry


def _distributions(tree: Path) -> Iterator[tuple[str, str]]:
    """Yield the Python packages in a tree, found by their .dist-info folders (PEP 376)."""
    for folder in tree.rglob("*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
        yield name, version
