"""Rules about the sources of packages: addresses, proxies and repositories."""

from __future__ import annotations

import re
from difflib import get_close_matches
from fnmatch import fnmatch
from typing import Final
from urllib.parse import urlsplit

from imaging.kickstart.limits import HOST_NAME
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.rules.software.packages import NEEDED_ALWAYS

SCHEMES: Final = ("http", "https", "ftp", "file", "nfs", "hd", "media", "cdrom")
PROXIES: Final = ("http", "https", "ftp", "socks", "socks4", "socks4a", "socks5", "socks5h")
URL_HOST: Final = re.compile(r"([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?", re.ASCII)
"""The host in a URL. Unlike host names, it may contain underscores."""
VARIABLE: Final = re.compile(r"\$\{?(\w+)")
VARIABLES: Final = (
    "releasever",
    "releasever_major",
    "releasever_minor",
    "basearch",
    "arch",
    "contentdir",
    "stream",
)
"""The variables of dnf.conf(5), VARIABLES, and those of CentOS and similar distributions."""
REPOSITORY_NAME: Final = re.compile(r"[a-zA-Z0-9_.:-]+", re.ASCII)


@risk
def unprotected_source(case: Case) -> Faults:
    """Anaconda does not verify package signatures, so that TLS is the only protection.

    Source: RHEL-09-214015, which applies to the installed system only.
    """
    for command in case.ks.named("url", "repo", "liveimg"):
        for option in ("url", "baseurl", "mirrorlist", "metalink"):
            given = str(command.option(option) or "")
            if given.startswith(("http://", "ftp://")):
                yield LintFault(
                    command.location, f"{given} is neither encrypted nor verified", "write https://"
                )
        if command.option("noverifyssl"):
            yield LintFault(
                command.location,
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
                command.location,
                f"repository {data.name} has no address",
                "add --baseurl=, --mirrorlist= or --metalink=",
            )


@rule
def source_address_form(case: Case) -> Faults:
    """A repository address has a scheme, a host, a port up to 65535 if any, and only variables that dnf has.

    Source: RFC 3986, 3.2; dnf.conf(5), baseurl and proxy; RHEL's kickstart reference, `url`, `nfs`.
    """
    for command in case.ks.named("nfs"):
        server, folder = str(command.data.server), str(command.data.dir)
        if not HOST_NAME.fullmatch(server) and not re.fullmatch(r"\[?[0-9A-Fa-f:.]+\]?", server):
            yield LintFault(
                command.location, f"--server={server} is not a host", "write it like nfs.example.com"
            )
        if not folder.startswith("/"):
            yield LintFault(
                command.location, f"--dir={folder} is not an absolute path", f"write --dir=/{folder}"
            )
    for command in case.ks.named("url", "repo", "liveimg"):
        for option in ("url", "baseurl", "mirrorlist", "metalink"):
            given = str(command.option(option) or "")
            for name in VARIABLE.findall(given):
                if name not in VARIABLES and (close := get_close_matches(name, VARIABLES, 1, 0.8)):
                    yield LintFault(command.location, f"dnf has no variable ${name}", f"write ${close[0]}")
            if given and not _is_address(given):
                yield LintFault(
                    command.location,
                    f"{given!r} is not a repository address",
                    "write it like https://HOST/PATH/",
                )
        proxy = str(command.option("proxy") or "")
        if proxy and not _is_proxy(proxy):
            yield LintFault(
                command.location, f"{proxy!r} is not a proxy", "write it like http://proxy.example.com:3128"
            )


@rule
def checksum_form(case: Case) -> Faults:
    """An image's checksum is SHA-256 in 64 hexadecimal digits.

    Source: RHEL's kickstart reference, `liveimg --checksum`.
    """
    for command in case.ks.named("liveimg"):
        given = str(command.data.checksum or "")
        if given and not re.fullmatch(r"[0-9A-Fa-f]{64}", given):
            yield LintFault(
                command.location, f"--checksum={given} is not SHA-256", "write what sha256sum prints"
            )


@risk
def repository_filters(case: Case) -> Faults:
    """A repository's filters must not exclude packages that every system needs, or packages that they include.

    Source: dnf.conf(5), includepkgs and excludepkgs.
    """
    for command in case.ks.named("repo"):
        data = command.data
        included, excluded = list(data.includepkgs or ()), list(data.excludepkgs or ())
        for pattern in excluded:
            if essential := next((name for name in NEEDED_ALWAYS if fnmatch(name, pattern)), ""):
                yield LintFault(
                    command.location, f"--excludepkgs={pattern} excludes {essential}", "leave it out"
                )
            elif pattern in included:
                yield LintFault(
                    command.location,
                    f"{pattern} is both included and excluded",
                    "remove it from one of the lists",
                )


@rule
def repository_name_form(case: Case) -> Faults:
    """The name of a repository is a section of dnf's configuration.

    Source: Anaconda, `core/regexes.py`, REPO_NAME_VALID.
    """
    for command in case.ks.named("repo"):
        if not REPOSITORY_NAME.fullmatch(command.data.name):
            yield LintFault(
                command.location,
                f"{command.data.name!r} is not a valid repository name",
                "use letters, digits and _ . : -",
            )


def _is_proxy(text: str) -> bool:
    if "$" in text or text.startswith("@"):
        return True
    try:
        parts = urlsplit(text if "//" in text else f"http://{text}")
        return parts.scheme in PROXIES and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _is_address(text: str) -> bool:
    if "$" in text.partition("://")[0]:
        return True
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname or "", parts.port
    except ValueError:  # a port above 65535, or a bracket that is not closed
        return False
    if host and "$" not in host and ":" not in host and not URL_HOST.fullmatch(host):
        return False
    local = parts.scheme in ("file", "hd", "media", "cdrom", "nfs") and parts.path
    return parts.scheme in SCHEMES and bool(local or parts.netloc) and not re.search(r"\s", text)
