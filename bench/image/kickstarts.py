"""The linter's findings in other projects' kickstarts: `KICKSTARTS=DIR python -m bench.image.kickstarts [--json]`.

`DIR` contains checkouts of public repositories: *.ks and *ks*.cfg files, and the templates *.ks.in of
rhinstaller/kickstart-tests, which are completed as its `scripts/run_kickstart_tests.sh` does: %ksappend from the
fragments of a platform, @KSTEST_…@ variables, then @KSINCLUDE@ files.

A finding is false if RHEL 9's Anaconda accepts the line. `kickstarts.toml` lists the findings that were confirmed by
reading, with the reason; every other finding counts as false.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.figures import Figure, figure, run
from imaging.kickstart.document import KickstartUnreadable
from imaging.kickstart.lint import LintFinding, UnknownVersion, lint

CONFIRMED: Final = Path(__file__).with_suffix(".toml")
PLATFORM: Final = "rhel9"
VARIABLES: Final = {
    "URL": "https://download.example.com/BaseOS/x86_64/os/",
    "MODULAR_URL": "https://download.example.com/Modular/x86_64/os/",
    "FTP_URL": "ftp://download.example.com/BaseOS/x86_64/os/",
    "FTP_APPSTREAM_URL": "ftp://download.example.com/AppStream/x86_64/os/",
    "OSTREECONTAINER_URL": "registry.example.com/bootc:latest",
    "OSTREE_REPO": "https://download.example.com/ostree/",
    "NFS_SERVER": "nfs.example.com",
    "NFS_PATH": "/export/os",
    "METALINK": "https://mirrors.example.com/metalink?repo=a&arch=x86_64",
    "MIRRORLIST": "https://mirrors.example.com/mirrorlist?repo=a&arch=x86_64",
    "STATIC_NETMASK": "255.255.255.0",
    "STATIC_PREFIX": "24",
    "STATIC_GATEWAY": "10.0.2.2",
    "STATIC_DNS1": "10.0.2.3",
    "NETDEV2_MAC": "52:54:00:12:34:62",
    "ISCSI_IP": "10.0.2.2",
    "ISCSI_PORT": "3260",
    "ISCSI_TARGET": "iqn.2003-01.org.linux-iscsi.example",
    "ISCSINAME": "iqn.2009-02.com.example.test:initiator",
    "LIVEIMG_URL": "https://download.example.com/install.img",
    "LIVEIMG_CHECKSUM": "0" * 64,
    **{f"NETDEV{number}": f"enp{number}s0" for number in range(1, 7)},
    **{f"STATIC_IP{number or ''}": f"10.0.2.20{number}" for number in range(5)},
}
"""The values of `scripts/defaults.sh`, `network-device-names.cfg` and the tests' own `prepare` functions."""

PLACEHOLDERS: Final = {
    "EMPTY_REPO_URL": VARIABLES["URL"],
    "HTTP-ADDON-REPO": VARIABLES["URL"],
    "REPO_A_URL": VARIABLES["URL"],
    "REPO_B_URL": VARIABLES["URL"],
    "REPO_URL": VARIABLES["URL"],
    "@MODULAR-REPO-URL@": VARIABLES["MODULAR_URL"],
    "%include KS-TEST-INCLUDE": "%include https://server.example.com/included.ks",
    "NFS_SERVER": VARIABLES["NFS_SERVER"],
    "NFS_DIR": VARIABLES["NFS_PATH"],
    "KVM_TEST_KEY": "",
    "KVM_TEST_MEDIUM": "cdrom",
    "KVM_TEST_LOGGING": "",
    "KVM_TEST_REPOS": "",
    "GRAPHICAL_OR_TEXT": "text",
}
"""Placeholders that the `prepare` functions of kickstart-tests and avocado-vt's unattended_install replace."""


def figures() -> list[Figure]:
    setting = os.environ.get("KICKSTARTS", "")
    folder = Path(setting)
    if not setting or not folder.is_dir():
        print(
            "nothing measured: set KICKSTARTS to a folder with checkouts of projects that contain kickstarts"
        )
        return []
    with TemporaryDirectory() as temporary:
        files = [*public(folder, Path(temporary)), *templates(folder, Path(temporary))]
        return measure(files)


def measure(files: list[tuple[str, Path]]) -> list[Figure]:
    """Check each (name, file). Prints the errors that `kickstarts.toml` does not confirm."""
    confirmed = tomllib.loads(CONFIRMED.read_text("utf-8"))["confirmed"]
    crashes = alarms = false = unreadable = 0
    for name, path in files:
        try:
            findings = errors(path)
        except (KickstartUnreadable, UnknownVersion):
            unreadable += 1
            continue
        except Exception as error:
            crashes += 1
            print(f"{name}: crash: {error!r}")
            continue
        alarms += len(findings)
        for finding in findings:
            if not any(fnmatch(name, entry["file"]) and finding.rule == entry["rule"] for entry in confirmed):
                false += 1
                print(f"{name}:{finding.line}: {finding.rule}: {finding.problem}")
    return [
        figure("kickstarts of other projects, read", "files", len(files) - unreadable, ">= 80"),
        figure("kickstarts of other projects, refused as a whole", "files", unreadable),
        figure("kickstarts of other projects, crashes", "files", crashes, "<= 0"),
        figure("kickstarts of other projects, errors", "findings", alarms),
        figure("kickstarts of other projects, false errors", "findings", false, "<= 0"),
    ]


def errors(path: Path) -> list[LintFinding]:
    return [finding for finding in lint(path).findings if finding.severity == "error"]


def public(folder: Path, out: Path) -> Iterator[tuple[str, Path]]:
    """Yield the kickstarts below a folder, with names relative to it."""
    for path in sorted(folder.rglob("*")):
        named = path.suffix == ".ks" or re.search(r"(^|[-_.])(ks|kickstart)\b.*\.cfg$", path.name)
        if named and path.is_file() and "fragments" not in path.parts:
            name = str(path.relative_to(folder))
            yield name, _written(out / name, path.read_text("utf-8", "surrogateescape"))


def templates(folder: Path, out: Path) -> Iterator[tuple[str, Path]]:
    """Yield the completed templates of kickstart-tests below a folder."""
    for path in sorted(folder.rglob("*.ks.in")):
        name = path.name.removesuffix(".in")
        yield name, _written(out / "kickstart-tests" / name, completed(path))


def _written(path: Path, text: str) -> Path:
    for placeholder, value in PLACEHOLDERS.items():
        text = re.sub(rf"(?<![\w/]){re.escape(placeholder)}(?!\w)", value.replace("\\", ""), text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8", "surrogateescape")
    return path


def completed(template: Path) -> str:
    """Return the text of a template, with fragments and scripts included and variables replaced."""
    root = template.parent
    text = re.sub(
        r"^%ksappend\s+(\S+).*$",
        lambda match: _fragment(root, match[1]),
        template.read_text("utf-8"),
        flags=re.M,
    )
    text = re.sub(
        r"^\s*@KSINCLUDE@\s*(\S+).*$", lambda match: (root / match[1]).read_text("utf-8"), text, flags=re.M
    )
    return re.sub(r"@KSTEST_([A-Z0-9_]+)@", lambda match: VARIABLES.get(match[1], match[1].lower()), text)


def _fragment(root: Path, name: str) -> str:
    """Return a fragment of the platform, or that of all platforms, or ""."""
    for folder in (f"platform/{PLATFORM}", "shared"):
        if (path := root / "fragments" / folder / name).is_file():
            return completed(path) if "%ksappend" in path.read_text("utf-8") else path.read_text("utf-8")
    return ""


if __name__ == "__main__":
    run(figures, __doc__)
