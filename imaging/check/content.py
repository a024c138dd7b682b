"""The SCAP content for an evaluation: a data stream of ComplianceAsCode or DISA, installed or given by its path.

A data stream contains a benchmark with profiles, such as "stig", "cis" or "MAC-1_Classified".

The content for RHEL applies only to Red Hat's own systems. Boxes may run a rebuild (AlmaLinux, Rocky Linux or CentOS
Stream); for these, a copy of the content without the platform line is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from imaging.check.types import InvalidCheckInput
from imaging.programs import PrerequisiteMissing

FOLDER: Final = Path("/usr/share/xml/scap/ssg/content")
PACKAGES: Final = ("ssg-nondebian", "scap-security-guide")
"""The names of the package with the content, in Debian and in RHEL."""
REBUILDS: Final = frozenset({"almalinux", "centos", "rocky"})
"""Rebuilds of RHEL, by the field ID of os-release(5)."""
_PLATFORM: Final = re.compile(rb'<(?:[\w.-]+:)?platform idref="cpe:/o:redhat:enterprise_linux:(\d+)[^"]*"/>')
_XCCDF: Final = "{http://checklists.nist.gov/xccdf/1.2}"
_DISA_RULE: Final = re.compile(r"xccdf_mil\.disa\.stig_rule_")
_RULE_PREFIX: Final = re.compile(r"xccdf_.*?_rule_")
_PROFILE_PREFIX: Final = re.compile(r"xccdf_.*?_profile_")
_RELEASE: Final = re.compile(r"release (\d+)")


def default_content(tree: Path) -> Path:
    """Return the installed content for the release of the system in `tree`.

    Raises: InvalidCheckInput, PrerequisiteMissing.
    """
    release = tree / "etc/redhat-release"
    match = _RELEASE.search(release.read_text("utf-8", "replace")) if release.exists() else None
    if match is None:
        raise InvalidCheckInput(
            f"{tree}: is neither RHEL nor a rebuild of it (etc/redhat-release); give the content with --content"
        )
    content = FOLDER / f"ssg-rhel{match[1]}-ds.xml"
    if not content.exists():
        debian, rhel = PACKAGES
        raise PrerequisiteMissing(
            f"{content}: missing; apt-get install {debian} (Debian), dnf install {rhel} (RHEL), "
            "or give a newer one with --content"
        )
    return content


@dataclass(frozen=True)
class Benchmark:
    """The benchmark of a data stream: its id and version, and the ids of its profiles."""

    identifier: str
    version: str
    profiles: Sequence[str]

    def profile(self, name: str, content: Path) -> str:
        """Return the id of the profile with this id or name.

        Raises: InvalidCheckInput, with the names of all profiles of `content`.
        """
        for identifier in self.profiles:
            if name in (identifier, short_profile(identifier)):
                return identifier
        names = ", ".join(map(short_profile, self.profiles))
        raise InvalidCheckInput(
            f"{content}: has no profile {name}; give one of these with --profile: {names or 'none'}"
        )

    @staticmethod
    def rule_name(identifier: str, version: str) -> str:
        """Return the name of a rule for reports and reasons; in DISA's content that of the STIG (RHEL-09-211010)."""
        return (
            version if _DISA_RULE.match(identifier) and version else _RULE_PREFIX.sub("", identifier, count=1)
        )


def short_profile(identifier: str) -> str:
    """Return the name of a profile without the publisher's prefix."""
    return _PROFILE_PREFIX.sub("", identifier, count=1)


def read_benchmark(content: Path) -> Benchmark:
    """Read the benchmark of a data stream. Raises: InvalidCheckInput."""
    try:
        root = ElementTree.fromstring(_read(content))  # noqa: S314 - the content is trusted: oscap runs it
    except ElementTree.ParseError as error:
        raise InvalidCheckInput(f"{content}: is not a complete SCAP data stream: {error}") from error
    element = next(root.iter(f"{_XCCDF}Benchmark"), None)
    if element is None:
        raise InvalidCheckInput(
            f"{content}: has no XCCDF benchmark; give a data stream such as {FOLDER}/ssg-rhel9-ds.xml"
        )
    version = element.findtext(f"{_XCCDF}version") or ""
    profiles = [str(profile.get("id")) for profile in element.iter(f"{_XCCDF}Profile")]
    return Benchmark(str(element.get("id")), version, profiles)


def content_for(content: Path, tree: Path) -> bytes:
    """Return a data stream, made applicable to the system in `tree` if that is a rebuild of RHEL.

    Raises: InvalidCheckInput.
    """
    text = _read(content)
    fields = _os_release(tree)
    if fields.get("ID") not in REBUILDS:
        return text
    version = fields.get("VERSION_ID", "").partition(".")[0].encode()
    return _PLATFORM.sub(lambda match: b"" if match[1] == version else match[0], text)


def _read(content: Path) -> bytes:
    try:
        text = content.read_bytes()
    except OSError as error:
        raise InvalidCheckInput(f"{content}: cannot be read: {error.strerror}") from error
    if b"data-stream-collection" not in text[:4096]:
        raise InvalidCheckInput(
            f"{content}: is not a SCAP data stream; give one such as {FOLDER}/ssg-rhel9-ds.xml"
        )
    return text


def system_name(tree: Path) -> str:
    """Return the name of the system in `tree`, from os-release."""
    return _os_release(tree).get("PRETTY_NAME") or str(tree)


def _os_release(tree: Path) -> dict[str, str]:
    """Return the fields of os-release(5). Symbolic links are not followed: absolute ones lead out of the tree."""
    for path in (tree / "usr/lib/os-release", tree / "etc/os-release"):
        if path.is_file() and not path.is_symlink():
            lines = path.read_text("utf-8", "replace").splitlines()
            pairs = (line.partition("=") for line in lines if "=" in line)
            return {key: value.strip("\"'") for key, _, value in pairs}
    return {}
