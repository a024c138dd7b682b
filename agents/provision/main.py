"""`/usr/lib/rap/provision --site FILE [--root DIR]`: everything that follows from the site file, into the system.

All is worked out before anything is written, and each file is written whole or not at all; a second time changes
nothing. With --root it works in a tree that is not running.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agents.provision.arrival import PARTITION, READABLE_BY_BOX, empty, keep, waiting
from agents.provision.box import IDENTITY, box_file, firewall_file
from agents.provision.files import write_file
from agents.provision.network import (
    CONNECTIONS,
    LINKS,
    connection_files,
    hosts_file,
    link_files,
    networkmanager_file,
)
from agents.provision.page import LISTEN, listen_file
from netfw.policy.policyfile import load_policy
from settings import identity_archive
from settings.problems import Problem, SettingsError
from settings.site import hosts_without_addresses, parse_site
from settings.toml import read_text

HOLDS, WRONG_INPUT, MACHINE_LACKS = 0, 2, 3
FOLDER: Final = "etc/rap"
UNITS: Final = ("rap-provision.service", "rap-firewall.service", "rap-box.service")
NETWORK_AFTER_FIREWALL: Final = """\
# No firewall, no network: if the ruleset cannot be loaded, the box stays unreachable. The file says that it was;
# with Requires= the network would be restarted whenever the firewall service is.
[Unit]
Wants=rap-firewall.service
After=rap-firewall.service
AssertPathExists=/run/rap-firewall/ready
"""
OWN: Final = (f"{LINKS}/10-rap-*.link", f"{CONNECTIONS}/rap-*.nmconnection")
"""What is removed if the site no longer has it."""
MODES: Final = {f"{FOLDER}/site.toml": 0o600, f"{FOLDER}/box.toml": READABLE_BY_BOX}
"""These two may hold the proxy's password. The folder gives its group, the box's, to files."""
SECRET: Final = frozenset({".nmconnection"})
"""NetworkManager takes only keyfiles that nobody but root can read."""


class SystemLacks(Exception):
    """The system lacks a program; the message says which package has it."""


def main(argv: Sequence[str] | None = None) -> int:
    """The program; its exit status is as `rap`'s."""
    parser = argparse.ArgumentParser(prog="provision", description="Make a system one laboratory's box.")
    parser.add_argument("--site", metavar="FILE", type=Path, required=True, help="the site file")
    parser.add_argument("--root", metavar="DIR", type=Path, default=Path("/"), help="the system's tree")
    arguments = parser.parse_args(argv)
    try:
        running = arguments.root == Path("/")
        changed = provision(arguments.site, arguments.root, PARTITION if running else None)
    except (SettingsError, identity_archive.IdentityError) as error:
        _say(str(error))
        return WRONG_INPUT
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}")
        return MACHINE_LACKS
    except SystemLacks as error:
        _say(str(error))
        return MACHINE_LACKS
    _say(f"wrote {', '.join(changed)}" if changed else "everything is as it should be")
    return HOLDS


def provision(file: Path, root: Path, partition: Path | None = None) -> list[str]:
    """Provision the system in `root` after the site in `file`; returns what changed, by path below the root.

    It takes the identity that waits in `partition` as well, and the site that came with it.
    Raises: SettingsError, identity_archive.IdentityError: nothing was changed; SystemLacks; OSError.
    """
    if not root.is_dir():
        raise SettingsError(root, Problem("", "is no folder; --root takes the tree of a system"))
    arrived = waiting(partition) if partition else {}
    site = arrived.get(identity_archive.SITE)
    files = files_of(site.decode() if site else read_text(file), file)
    keep(arrived, root / IDENTITY.relative_to("/"))
    changed = [path for path, text in files.items() if write_file(root / path, text.encode(), _mode(path))]
    for stale in (path for pattern in OWN for path in root.glob(pattern)):
        if str(stale.relative_to(root)) not in files:
            stale.unlink()
            changed.append(str(stale.relative_to(root)))
    _enable(root)
    if partition and arrived:
        empty(partition)
    return changed


def files_of(text: str, file: Path) -> dict[str, str]:
    """All files that follow from a site, by path below the root; it is from `file`. Raises: SettingsError."""
    site, board = parse_site(text, file)
    for key, problem in hosts_without_addresses(site):
        _say(f"{file}: {key}: {problem}; the box goes on without")
    own = {"site.toml": text, "box.toml": box_file(site, board), "firewall.toml": firewall_file(site, board)}
    if site.board.endswith(".toml"):
        own[site.board] = (file.parent / site.board).read_text("utf-8")
    _judge(own, file)
    return {
        **{f"{FOLDER}/{name}": content for name, content in own.items()},
        "etc/hosts": hosts_file(site),
        LISTEN: listen_file(site, board),
        "etc/NetworkManager/conf.d/10-rap.conf": networkmanager_file(board),
        "etc/systemd/system/NetworkManager.service.d/10-rap-firewall.conf": NETWORK_AFTER_FIREWALL,
        **link_files(board),
        **connection_files(site, board),
    }


def _judge(own: dict[str, str], file: Path) -> None:
    """Have the firewall's own reader look at the policy before it replaces another. Raises: SettingsError."""
    with tempfile.TemporaryDirectory(prefix="rap-provision-") as folder:
        for name, content in own.items():
            write_file(Path(folder) / name, content.encode(), 0o600)
        try:
            load_policy(Path(folder) / "firewall.toml")
        except SettingsError as error:
            problems = "; ".join(problem.message for problem in error.problems)
            raise SettingsError(
                file, Problem("", f"no firewall policy follows from it: {problems}")
            ) from None


def _mode(path: str) -> int:
    return MODES.get(path, 0o600 if Path(path).suffix in SECRET else 0o644)


def _enable(root: Path) -> None:
    if shutil.which("systemctl") is None:
        raise SystemLacks("systemctl is missing: install systemd")
    words = ["systemctl", f"--root={root}", "--quiet", "enable", *UNITS]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemLacks(
            f"{root}: the units cannot be enabled: install rap-box there; {done.stderr.strip()}"
        )


def _say(what: str) -> None:
    sys.stderr.write(f"provision: {what}\n")
