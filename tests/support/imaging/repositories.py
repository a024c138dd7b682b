"""Package repositories of metadata only, in the form that createrepo_c writes."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from backports import zstd

PACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gz": lambda data: gzip.compress(data, 1, mtime=0),
    "xz": lambda data: lzma.compress(data, preset=0),
    "zst": lambda data: zstd.compress(data, 1),
}


@dataclass(frozen=True)
class Rpm:
    """A package that exists only in metadata. Requirements are names, or (name, flag, version)."""

    name: str
    version: str = "1.0"
    requires: tuple[str | tuple[str, str, str], ...] = ()
    provides: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    arch: str = "x86_64"


@dataclass(frozen=True)
class Comps:
    """Groups and environments by id."""

    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    environments: dict[str, tuple[str, ...]] = field(default_factory=dict)


def write_repository(
    folder: Path, rpms: Iterable[Rpm], comps: Comps | None = None, packing: str = "gz"
) -> Path:
    """Write a repository and return its folder. Its primary metadata lists only files in /etc and bin folders."""
    rpms = list(rpms)
    data = folder / "repodata"
    data.mkdir(parents=True, exist_ok=True)
    parts = {"primary": _primary(rpms), "filelists": _filelists(rpms), "group": _comps(comps or Comps())}
    entries = []
    for kind, text in parts.items():
        path = data / f"{kind}.xml.{packing}"
        path.write_bytes(PACK[packing](text.encode()))
        entries.append(f'<data type="{kind}"><location href="repodata/{path.name}"/></data>')
    (data / "repomd.xml").write_text(f"<repomd>{''.join(entries)}</repomd>")
    return folder


def _primary(rpms: list[Rpm]) -> str:
    return f'<metadata packages="{len(rpms)}">{"".join(map(_package, rpms))}</metadata>'


def _package(rpm: Rpm) -> str:
    provided: list[str | tuple[str, str, str]] = [(rpm.name, "EQ", rpm.version), *rpm.provides]
    provides = "".join(map(_entry, provided))
    requires = "".join(map(_entry, rpm.requires))
    files = "".join(
        f"<file>{escape(path)}</file>" for path in rpm.files if "bin/" in path or path.startswith("/etc/")
    )
    return (
        f'<package type="rpm"><name>{rpm.name}</name><arch>{rpm.arch}</arch>{_version(rpm)}'
        f"<summary>Of no use</summary><format><rpm:provides>{provides}</rpm:provides>"
        f"<rpm:requires>{requires}</rpm:requires>{files}</format></package>"
    )


def _filelists(rpms: list[Rpm]) -> str:
    packages = (
        f'<package name="{rpm.name}" arch="{rpm.arch}">{_version(rpm)}'
        + "".join(f"<file>{escape(path)}</file>" for path in rpm.files)
        + "</package>"
        for rpm in rpms
    )
    return f"<filelists>{''.join(packages)}</filelists>"


def _comps(comps: Comps) -> str:
    groups = "".join(
        f'<group><id>{name}</id><name>{name}</name><name xml:lang="de">Gruppe</name><packagelist>'
        + "".join(f'<packagereq type="mandatory">{package}</packagereq>' for package in members)
        + "</packagelist></group>"
        for name, members in comps.groups.items()
    )
    environments = "".join(
        f"<environment><id>{name}</id><name>{name}</name><grouplist>"
        + "".join(f"<groupid>{group}</groupid>" for group in members)
        + "</grouplist></environment>"
        for name, members in comps.environments.items()
    )
    return f"<comps>{groups}{environments}</comps>"


def _version(rpm: Rpm) -> str:
    return f'<version epoch="0" ver="{rpm.version}" rel="1"/>'


def _entry(capability: str | tuple[str, str, str]) -> str:
    if isinstance(capability, str):
        return f"<rpm:entry name={quoteattr(capability)}/>"
    name, flag, version = capability
    return f'<rpm:entry name={quoteattr(name)} flags="{flag}" epoch="0" ver="{version}"/>'


PLAIN: Final = (
    *(
        "aide",
        "audispd-plugins",
        "audit-rules",
        "chrony",
        "clevis-luks",
        "clevis-systemd",
        "crypto-policies-scripts",
        "cryptsetup",
    ),
    *(
        "dracut",
        "gnutls-utils",
        "gssproxy",
        "nfs-utils",
        "openssh-clients",
        "policycoreutils",
        "policycoreutils-python-utils",
        "rsyslog-gnutls",
        "sendmail",
        "sudo",
        "telnet-server",
    ),
    *("logrotate", "nss-tools", "openssl-pkcs11"),
    *("tftp-server", "tmux", "tpm2-tools", "tuned", "vsftpd"),
)
BOX: Final = (
    *map(Rpm, PLAIN),
    Rpm("bash", files=("/usr/bin/bash", "/usr/bin/sh")),
    Rpm("python3", files=("/usr/bin/python3",)),
    Rpm("audit", files=("/usr/lib/systemd/system/auditd.service",)),
    Rpm("chrony-daemon", provides=("chronyd",), files=("/usr/lib/systemd/system/chronyd.service",)),
    Rpm("cronie", files=("/usr/lib/systemd/system/crond.service",)),
    Rpm("firewalld", requires=("nftables",), files=("/usr/lib/systemd/system/firewalld.service",)),
    Rpm("nftables"),
    Rpm(
        "rap-box",
        requires=(("python3", "GE", "1.0"), "/usr/bin/bash"),
        files=("/usr/lib/systemd/system/rap-firewall.service",),
    ),
    Rpm("rng-tools", files=("/usr/lib/systemd/system/rngd.service",)),
    Rpm("rsyslog", files=("/usr/lib/systemd/system/rsyslog.service",)),
    Rpm("openssh-server", files=("/usr/lib/systemd/system/sshd.service",)),
    Rpm("perl", files=("/usr/bin/perl",)),
    Rpm("needy", requires=("libnothing.so.1()(64bit)",)),
)
"""The packages that the box's own kickstart requests, and others for tests."""
BOX_COMPS: Final = Comps(
    groups={"core": ("bash", "chrony-daemon"), "standard": ("sudo",)},
    environments={"minimal-environment": ("core",)},
)
