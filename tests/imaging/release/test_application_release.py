"""Detection of releases that change only the application and therefore need no restart of boxes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from imaging.release.application import changed_outside_application, changes_only_application
from imaging.release.repository import NewRelease, ReleaseRepository
from imaging.release.slots import release_slot
from tests.support.imaging.releases import NOW, released

MODULE = "usr/lib/rap/python/agents/box/box.py"


def image(tree: Path) -> Path:
    """Return a file with an ext4 that contains the tree."""
    file = tree.with_suffix(".img")
    options = ["-t", "ext4", "-b", "4096", "-O", "^has_journal", "-U", "00000000-0000-0000-0000-000000000001"]
    subprocess.run(["/usr/sbin/mke2fs", "-q", "-F", *options, "-d", tree, file, "8m"], check=True)
    return file


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The tree of the older release."""
    tree = tmp_path / "before"
    for path in (
        MODULE,
        "usr/lib/rap/python/agents/provision/box.py",
        "usr/lib/sysimage/rpm/db",
        "usr/bin/rap",
    ):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(f"{path}\n")
    (tree / "usr/lib/rap/provision").symlink_to("../../libexec/rap/provision")
    (tree / "usr/big").write_bytes(os.urandom(100_000))
    return tree


def after(before: Path, change: Callable[[Path], object]) -> Path:
    """Return the image of the tree after a change."""
    tree = before.with_name("after")
    shutil.copytree(before, tree, symlinks=True)
    change(tree)
    return image(tree)


def correct(tree: Path) -> None:
    """Change a module and the package database, and add and remove a file of the application."""
    (tree / MODULE).write_text("other\n" * 2000)
    (tree / "usr/lib/sysimage/rpm/db").write_text("other\n")
    (tree / "usr/lib/rap/python/new").mkdir()
    (tree / "usr/lib/rap/python/new/module.py").write_text("new\n")


def retarget_link(tree: Path) -> None:
    (tree / "usr/lib/rap/provision").unlink()
    (tree / "usr/lib/rap/provision").symlink_to("../../libexec/rap/other")


def test_a_correction_of_the_application_needs_no_restart(before: Path) -> None:
    assert changes_only_application(image(before), after(before, correct))


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (lambda tree: (tree / "usr/bin/rap").write_text("other"), ["/usr/bin/rap"]),
        (lambda tree: (tree / "usr/bin/rap").chmod(0o755), ["/usr/bin/rap"]),
        (lambda tree: (tree / "usr/bin/rap").unlink(), ["/usr/bin/rap"]),
        (lambda tree: (tree / "etc").mkdir(), ["/etc"]),
        (lambda tree: (tree / "usr/bin").chmod(0o700), ["/usr/bin"]),
        (lambda tree: (tree / "usr/big").write_bytes(os.urandom(100_000)), ["/usr/big"]),
        (retarget_link, ["/usr/lib/rap/provision"]),
        (
            lambda tree: (tree / "usr/lib/rap/python/agents/provision/box.py").write_text("other"),
            ["/usr/lib/rap/python/agents/provision/box.py"],
        ),
    ],
)
def test_other_changes_need_a_restart(
    before: Path, change: Callable[[Path], object], changed: list[str]
) -> None:
    assert changed_outside_application(image(before), after(before, change)) == changed


def test_an_extended_attribute_needs_a_restart(before: Path) -> None:
    first = image(before)
    shutil.copyfile(first, second := before.with_name("second.img"))
    command = ["/usr/sbin/debugfs", "-w", "-R", "ea_set /usr/bin/rap security.selinux bin_t", str(second)]
    subprocess.run(command, check=True, capture_output=True)
    assert changed_outside_application(first, second) == ["/usr/bin/rap"]


def test_slots_without_a_file_system_need_a_restart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode().ljust(8192, b"\0"))
    assert not changes_only_application(tmp_path / "one", tmp_path / "two")


def test_a_release_and_its_delta_are_marked_as_application(before: Path, tmp_path: Path) -> None:
    repository, keys = released(tmp_path, ())
    second = after(before, correct)
    (before.with_name("third")).mkdir()
    third = image(before.with_name("third"))
    for number, slot in enumerate((image(before), second, third), 1):
        sources = [str(number - 1)] if number > 1 else []
        release_slot(repository, slot, NewRelease(str(number), number, 0), keys, NOW, sources)
    customs = ReleaseRepository(repository.folder).released()
    assert customs["deltas/1-2"]["application"] is True
    assert {customs[name]["kind"] for name in ("slots/2.zst", "slots/2.blocks", "deltas/1-2")} == {
        "application"
    }
    assert not {"kind", "application"} & (customs["deltas/2-3"].keys() | customs["slots/3.zst"].keys())
