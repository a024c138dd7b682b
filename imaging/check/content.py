"""The SCAP content for an evaluation: a data stream of ComplianceAsCode, the distribution's or one given by path.

Red Hat's content applies to Red Hat's own systems only. AlmaLinux, Rocky and CentOS Stream are rebuilds of the same
software, and boxes run them; for these, a copy without the platform line is used.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from imaging.check.types import WrongCheck
from imaging.programs import PrerequisiteMissing

FOLDER: Final = Path("/usr/share/xml/scap/ssg/content")
PACKAGES: Final = ("ssg-nondebian", "scap-security-guide")
"""Debian's name, RHEL's."""
REBUILDS: Final = frozenset({"almalinux", "centos", "rocky"})
"""ID of os-release(5)."""
_PLATFORM: Final = re.compile(rb'<(?:[\w.-]+:)?platform idref="cpe:/o:redhat:enterprise_linux:(\d+)[^"]*"/>')
_RELEASE: Final = re.compile(r"release (\d+)")


def default_content(tree: Path) -> Path:
    """The installed content for the release of the system in `tree`. Raises: WrongCheck, PrerequisiteMissing."""
    release = tree / "etc/redhat-release"
    found = _RELEASE.search(release.read_text("utf-8", "replace")) if release.exists() else None
    if found is None:
        raise WrongCheck(
            f"{tree}: is neither RHEL nor a rebuild of it (etc/redhat-release); give its content with --content"
        )
    content = FOLDER / f"ssg-rhel{found[1]}-ds.xml"
    if not content.exists():
        debian, rhel = PACKAGES
        raise PrerequisiteMissing(
            f"{content}: missing; apt-get install {debian} (Debian), dnf install {rhel} (RHEL), "
            "or give a newer one with --content"
        )
    return content


def content_for(content: Path, tree: Path) -> bytes:
    """Read a data stream, and make it applicable to the system in `tree` if that is a rebuild of RHEL.

    Raises: WrongCheck.
    """
    try:
        text = content.read_bytes()
    except OSError as error:
        raise WrongCheck(f"{content}: cannot be read: {error.strerror}") from error
    if b"data-stream-collection" not in text[:4096]:
        raise WrongCheck(f"{content}: is not a SCAP data stream; give one such as {FOLDER}/ssg-rhel9-ds.xml")
    about = _about(tree)
    if about.get("ID") not in REBUILDS:
        return text
    version = about.get("VERSION_ID", "").partition(".")[0].encode()
    return _PLATFORM.sub(lambda match: b"" if match[1] == version else match[0], text)


def system_name(tree: Path) -> str:
    """The name of the system in `tree`, from os-release."""
    return _about(tree).get("PRETTY_NAME") or str(tree)


def _about(tree: Path) -> dict[str, str]:
    """The fields of os-release(5). Links are not followed, because an absolute one would lead out of the tree."""
    for path in (tree / "usr/lib/os-release", tree / "etc/os-release"):
        if path.is_file() and not path.is_symlink():
            lines = path.read_text("utf-8", "replace").splitlines()
            pairs = (line.partition("=") for line in lines if "=" in line)
            return {key: value.strip("\"'") for key, _, value in pairs}
    return {}
