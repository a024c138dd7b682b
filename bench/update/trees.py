"""Two releases of a real system, before and after a set of security updates: Debian's, without and with its updates.

The packages are those of the mock repository, and a web server, rsyslog, auditd and OpenVPN. apt resolves and
downloads them twice, once without the archive of security updates. Maintainer scripts do not run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from imaging.build.partitions import set_times
from imaging.build.sandbox import run_inside
from imaging.kickstart.data import MIB
from imaging.mock_repo import debs

MORE: Final = ("apache2", "rsyslog", "auditd", "openvpn")
EPOCH: Final = 1_790_000_000
SLOT_MIB: Final = 640
UUID: Final = "6b1f7a52-33e4-5d7c-9a53-5f2b5d3f0c11"
_BEFORE: Final = """\
Package: *
Pin: release n=bookworm-security
Pin-Priority: -1
"""
_PACKAGES: Final = Path(debs.__file__).with_name("packages.toml")


@dataclass(frozen=True)
class ReleaseTree:
    """The tree of a release, and its packages with their versions."""

    tree: Path
    packages: dict[str, str]


def make_releases(folder: Path) -> tuple[ReleaseTree, ReleaseTree]:
    """Return the releases before and after, which are made in `folder` once. Raises: ProgramFailed, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    (pins := folder / "before.pref").write_text(_BEFORE)
    return (
        _make_release(folder / "before", [f"Dir::Etc::preferences={pins.absolute()}"]),
        _make_release(folder / "after", []),
    )


def _make_release(folder: Path, options: Sequence[str]) -> ReleaseTree:
    table = tomllib.loads(_PACKAGES.read_text())
    names = [*table["debs"], *MORE]
    fetched = debs.fetch(names, folder / "debs", options)
    installed = [
        deb for deb in fetched if not any(fnmatch(deb.name, pattern) for pattern in table["leave_out"])
    ]
    tree = folder / "tree"
    if not tree.exists():
        part = folder / "part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for name, target in table["stubs"]["filesystem"]["links"].items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).symlink_to(target)
        for deb in installed:
            deb.unpack(part)
        configuration = part / "etc/dracut.conf.d/mock.conf"
        configuration.parent.mkdir(parents=True, exist_ok=True)
        configuration.write_text(table["stubs"]["mock-config"]["files"]["etc/dracut.conf.d/mock.conf"])
        _configure(part)
        part.rename(tree)
    return ReleaseTree(tree, {deb.name: deb.fields["Version"] for deb in installed})


def _configure(tree: Path) -> None:
    """Make an uncompressed initramfs, and give all files the time of their package or EPOCH."""
    environment = {"SOURCE_DATE_EPOCH": str(EPOCH), "HOME": "/root"}
    commands = [["ldconfig"]]
    for modules in sorted((tree / "usr/lib/modules").iterdir()):
        version = modules.name
        shutil.copy2(tree / f"boot/vmlinuz-{version}", modules / "vmlinuz")
        commands.append(["depmod", version])
        options = ["--force", "--no-hostonly", "--reproducible", "--no-compress"]
        commands.append(["dracut", *options, f"/boot/initramfs-{version}.img", version])
    for command in commands:
        run_inside(tree, command, environment, lambda _line: None)
    for path in sorted(tree.glob("boot/System.map-*")):
        path.unlink()
    for path in (tree, *tree.rglob("*")):
        mtime = min(int(path.lstat().st_mtime), EPOCH)
        os.utime(path, (mtime, mtime), follow_symlinks=False)


def make_slot(tree: Path, image: Path) -> Path:
    """Make the image of a root slot from a tree, with the options of the image builder. Raises: ProgramFailed."""
    if image.exists():
        return image
    times = {**os.environ, "E2FSPROGS_FAKE_TIME": str(EPOCH), "SOURCE_DATE_EPOCH": str(EPOCH)}
    options = f"hash_seed={UUID},lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0,nodiscard"
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-U", UUID, "-E", options, "-O", "metadata_csum_seed"]
    part = image.with_suffix(".part")
    part.unlink(missing_ok=True)
    subprocess.run([*command, "-d", tree, part, f"{SLOT_MIB}m"], env=times, check=True)
    set_times(part, 0, SLOT_MIB * MIB, times)
    part.rename(image)
    return image
