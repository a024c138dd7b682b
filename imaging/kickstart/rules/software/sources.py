"""Where the packages come from."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule

SCHEMES: Final = ("http", "https", "ftp", "file", "nfs", "hd", "media", "cdrom")
REPOSITORY_NAME: Final = re.compile(r"[a-zA-Z0-9_.:-]+", re.ASCII)


@risk
def unprotected_source(case: Case) -> Faults:
    """Anaconda does not verify package signatures, so that TLS is the only protection.

    Source: RHEL-09-214015 holds only afterwards.
    """
    for command in case.ks.named("url", "repo", "liveimg"):
        for option in ("url", "baseurl", "mirrorlist", "metalink"):
            given = str(getattr(command.data, option, "") or "")
            if given.startswith(("http://", "ftp://")):
                yield LintFault(command.spot, f"{given} is neither encrypted nor verified", "write https://")
        if getattr(command.data, "noverifyssl", False):
            yield LintFault(
                command.spot,
                "--noverifyssl accepts packages from any server",
                "give --sslcacert=, and leave it out",
            )


@risk
def repository_without_address(case: Case) -> Faults:
    """`repo` without an address enables a repository of that name from the medium's .treeinfo or from inst.addrepo.

    Source: RHEL's kickstart reference, `repo`; Anaconda, `payload/dnf`: "not defined".
    """
    for command in case.ks.named("repo"):
        data = command.data
        if not (data.baseurl or data.mirrorlist or data.metalink):
            yield LintFault(
                command.spot,
                f"repository {data.name} has no address",
                "add --baseurl=, --mirrorlist= or --metalink=",
            )


@rule
def source_address_form(case: Case) -> Faults:
    """A repository address has a scheme and a host, and a proxy address has a port.

    Source: dnf.conf(5), baseurl and proxy; RHEL's kickstart reference, `url`.
    """
    for command in case.ks.named("url", "repo", "liveimg"):
        for option in ("url", "baseurl", "mirrorlist", "metalink"):
            given = str(getattr(command.data, option, "") or "")
            if given and not _is_address(given):
                yield LintFault(
                    command.spot,
                    f"{given!r} is not a repository address",
                    "write it like https://HOST/PATH/",
                )


@rule
def repository_name_form(case: Case) -> Faults:
    """The name of a repository is a section of dnf's configuration.

    Source: Anaconda, `core/regexes.py`, REPO_NAME_VALID.
    """
    for command in case.ks.named("repo"):
        if not REPOSITORY_NAME.fullmatch(command.data.name):
            yield LintFault(
                command.spot,
                f"{command.data.name!r} is not a repository's name",
                "use letters, digits and _ . : -",
            )


def _is_address(text: str) -> bool:
    if "$" in text.partition("://")[0]:
        return True
    parts = urlsplit(text)
    local = parts.scheme in ("file", "hd", "media", "cdrom", "nfs") and parts.path
    return parts.scheme in SCHEMES and bool(local or parts.netloc) and not re.search(r"\s", text)
