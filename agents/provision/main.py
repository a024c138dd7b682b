"""`/usr/lib/rap/provision --site FILE [--start | --root DIR]`: configures a system from the site file.

All contents are generated and checked before anything is written, each file is written atomically, and running it
again changes nothing. With --root it configures the tree of a system that is not running.

/etc of an image is created anew at each start. The site file of such a box is kept next to its identity; at each
start, rap-provision.service writes the files from it (`--start`). A site file given later replaces it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agents.provision.box import (
    HEAD_KEYS,
    IDENTITY,
    OFFER_KEYS,
    RELEASES_ROOT,
    box_file,
    firewall_file,
    keys_file,
)
from agents.provision.host_keys import FOLDER as SSH_FOLDER
from agents.provision.host_keys import KEPT, install_host_keys
from agents.provision.identity import (
    PARTITION,
    READABLE_BY_BOX,
    erase_identity,
    install_certificate,
    install_files,
    read_identity,
    withdraw_key,
)
from agents.provision.ipsec import CONFIGURATION, SECRETS, UNIT, ipsec_files
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
from wire.process.files import write_file

OK, WRONG_INPUT, MACHINE_LACKS = 0, 2, 3
FOLDER: Final = "etc/rap"
STAMP: Final = "var/lib/rap/provisioned"
"""This file exists once the box has its certificate."""
WANTED: Final = "etc/systemd/system/multi-user.target.wants"
UNITS: Final = (
    "rap-provision.service",
    "rap-firewall.service",
    "rap-tunnel.service",
    "rap-box.service",
    UNIT,
)
NETWORK_AFTER_FIREWALL: Final = """\
# The network starts only after the firewall ruleset has been loaded, which the asserted file indicates.
# Requires= would restart the network whenever the firewall service is restarted.
[Unit]
Wants=rap-firewall.service
After=rap-firewall.service
AssertPathExists=/run/rap-firewall/ready
"""
GENERATED: Final = (
    f"{LINKS}/10-rap-*.link",
    f"{CONNECTIONS}/rap-*.nmconnection",
    f"{FOLDER}/{OFFER_KEYS}",
    f"{FOLDER}/{HEAD_KEYS}",
    CONFIGURATION,
    SECRETS,
)
"""Generated files; those that the site no longer needs are removed."""
LINKS_CHANGED: Final = "links-changed"
"""A file in the runtime directory of rap-provision.service: condition of rap-interfaces.service."""
MODES: Final = {f"{FOLDER}/site.toml": 0o600, f"{FOLDER}/box.toml": READABLE_BY_BOX}
"""These two files may contain the proxy's password. Files inherit the directory's group, the box's."""
SECRET: Final = frozenset({".nmconnection", ".secrets"})
"""Files that only root can read; NetworkManager accepts no others."""


class SystemLacks(Exception):
    """A program is missing on the system; the message names the package to install."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status, with the same meaning as in `rap`."""
    parser = argparse.ArgumentParser(
        prog="provision", description="Configure a system as the box of one laboratory."
    )
    parser.add_argument("--site", metavar="FILE", type=Path, required=True, help="the site file")
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="the root directory of the system"
    )
    parser.add_argument(
        "--start",
        action="store_true",
        help="use the site file kept with the identity instead, if there is one",
    )
    arguments = parser.parse_args(argv)
    try:
        running = arguments.root == Path("/")
        partition = PARTITION if running else None
        changed = provision(arguments.site, arguments.root, partition, at_start=arguments.start)
        if running and any(path.startswith(LINKS) for path in changed):
            note_new_names()
    except (SettingsError, identity_archive.IdentityError) as error:
        _print(str(error))
        return WRONG_INPUT
    except OSError as error:
        _print(f"{error.filename}: {error.strerror}")
        return MACHINE_LACKS
    except SystemLacks as error:
        _print(str(error))
        return MACHINE_LACKS
    _print(f"wrote {', '.join(changed)}" if changed else "nothing to change")
    return OK


def provision(file: Path, root: Path, partition: Path | None = None, *, at_start: bool = False) -> list[str]:
    """Configure the system in `root` from the site file `file`; return the changed files, as paths below the root.

    If `partition` holds an identity, install it, and use its site file instead of `file`. This site file is kept next
    to the identity: later, with `at_start`, the kept one is used, and otherwise `file` replaces it. The stamp is
    written last, when the box has a certificate.

    Raises: SettingsError or identity_archive.IdentityError, with nothing changed; SystemLacks; OSError.
    """
    if not root.is_dir():
        raise SettingsError(
            root, Problem("", "is not a directory; --root takes the root directory of a system")
        )
    folder = root / IDENTITY.relative_to("/")
    identity = read_identity(partition, folder) if partition else {}
    site, kept = identity.get(identity_archive.SITE), folder / identity_archive.SITE
    text = site.decode() if site else read_text(kept if at_start and kept.exists() else file)
    files = files_of(text, file)
    install_files(identity, folder)
    if kept.exists():
        write_file(kept, text.encode(), MODES[f"{FOLDER}/site.toml"])
        if at_start:
            install_host_keys(root / KEPT.relative_to("/"), root / SSH_FOLDER)
    changed = [path for path, text in files.items() if write_file(root / path, text.encode(), _mode(path))]
    for stale in (path for pattern in GENERATED for path in root.glob(pattern)):
        if str(stale.relative_to(root)) not in files:
            stale.unlink()
            changed.append(str(stale.relative_to(root)))
    _enable(root)
    if partition:
        os.sync()  # the links and removals above, before the partition that would repeat them is erased
        if install_certificate(identity, folder):
            erase_identity(partition)
            write_file(root / STAMP, b"", 0o644)
        else:
            withdraw_key(partition, folder, files[f"{FOLDER}/site.toml"].encode())
    return changed


def files_of(text: str, file: Path) -> dict[str, str]:
    """Return the generated files' contents, by path below the root; `text` is from `file`. Raises: SettingsError."""
    site, board = parse_site(text, file)
    for key, problem in hosts_without_addresses(site):
        _print(f"{file}: {key}: {problem}; the box runs without this host")
    releases_root = RELEASES_ROOT if RELEASES_ROOT.exists() else None
    own = {
        "site.toml": text,
        "box.toml": box_file(site, board, releases_root),
        "firewall.toml": firewall_file(site, board),
    }
    if site.sessions is not None:
        own[OFFER_KEYS] = keys_file(site.sessions.keys)
    if site.audit.keys:
        own[HEAD_KEYS] = keys_file(site.audit.keys)
    if site.board.endswith(".toml"):
        own[site.board] = (file.parent / site.board).read_text("utf-8")
    _check_policy(own, file)
    return {
        **{f"{FOLDER}/{name}": content for name, content in own.items()},
        "etc/hosts": hosts_file(site),
        LISTEN: listen_file(site, board),
        "etc/NetworkManager/conf.d/10-rap.conf": networkmanager_file(board),
        "etc/systemd/system/NetworkManager.service.d/10-rap-firewall.conf": NETWORK_AFTER_FIREWALL,
        **link_files(board),
        **connection_files(site, board),
        **ipsec_files(site),
    }


def _check_policy(own: dict[str, str], file: Path) -> None:
    """Check the generated firewall policy with its own reader. Raises: SettingsError."""
    with tempfile.TemporaryDirectory(prefix="rap-provision-") as folder:
        for name, content in own.items():
            write_file(Path(folder) / name, content.encode(), 0o600)
        try:
            load_policy(Path(folder) / "firewall.toml")
        except SettingsError as error:
            problems = "; ".join(problem.message for problem in error.problems)
            raise SettingsError(
                file, Problem("", f"the firewall policy generated from it is invalid: {problems}")
            ) from None


def _mode(path: str) -> int:
    return MODES.get(path, 0o600 if Path(path).suffix in SECRET else 0o644)


def _enable(root: Path) -> None:
    if all((root / WANTED / unit).is_symlink() for unit in UNITS):
        return  # an image's units are enabled when it is built
    if shutil.which("systemctl") is None:
        raise SystemLacks("systemctl is missing: install systemd")
    command = ["systemctl", f"--root={root}", "--quiet", "enable", *UNITS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemLacks(
            f"{root}: the units cannot be enabled: install rap-box in this system; {done.stderr.strip()}"
        )


def note_new_names() -> None:
    """Let rap-interfaces.service rename the network interfaces, if systemd runs this program."""
    if folder := os.environ.get("RUNTIME_DIRECTORY"):
        (Path(folder) / LINKS_CHANGED).touch()


def _print(message: str) -> None:
    sys.stderr.write(f"provision: {message}\n")
