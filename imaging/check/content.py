"""The content that a system is judged by: a SCAP data stream of ComplianceAsCode, the distribution's or one by path.

Red Hat's content is for Red Hat's own system, and says of every other that no rule applies. AlmaLinux, Rocky and
CentOS Stream are the same software under another name, and boxes run them; for these, a copy without that one line is
used.
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


def usual_content(tree: Path) -> Path:
    """The installed content for the release of the system in `tree`. Errors: WrongCheck, PrerequisiteMissing."""
    release = tree / "etc/redhat-release"
    found = _RELEASE.search(release.read_text("utf-8", "replace")) if release.exists() else None
    if found is None:
        raise WrongCheck(
            f"{tree}: is no RHEL or rebuild (etc/redhat-release); name its content with --content"
        )
    content = FOLDER / f"ssg-rhel{found[1]}-ds.xml"
    if not content.exists():
        debian, rhel = PACKAGES
        raise PrerequisiteMissing(
            f"{content}: missing; apt-get install {debian} (Debian), dnf install {rhel} (RHEL), "
            "or name a newer one with --content"
        )
    return content


def fitting(content: Path, tree: Path) -> bytes:
    """A data stream, or a copy of it that is for the rebuild in `tree`, too. Errors: WrongCheck."""
    try:
        text = content.read_bytes()
    except OSError as error:
        raise WrongCheck(f"{content}: cannot be read: {error.strerror}") from error
    if b"data-stream-collection" not in text[:4096]:
        raise WrongCheck(f"{content}: is no SCAP data stream; such as {FOLDER}/ssg-rhel9-ds.xml")
    about = _about(tree)
    if about.get("ID") not in REBUILDS:
        return text
    version = about.get("VERSION_ID", "").partition(".")[0].encode()
    return _PLATFORM.sub(lambda match: b"" if match[1] == version else match[0], text)


def system_name(tree: Path) -> str:
    """What the system in `tree` calls itself."""
    return _about(tree).get("PRETTY_NAME") or str(tree)


def _about(tree: Path) -> dict[str, str]:
    """os-release(5); a link in it may be absolute, and then leads out of the tree."""
    for path in (tree / "usr/lib/os-release", tree / "etc/os-release"):
        if path.is_file() and not path.is_symlink():
            lines = path.read_text("utf-8", "replace").splitlines()
            pairs = (line.partition("=") for line in lines if "=" in line)
            return {key: value.strip("\"'") for key, _, value in pairs}
    return {}
