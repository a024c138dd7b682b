"""Disk images of the smallest system: reproducible builds, the images' content, and errors that stop a build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Final

import pytest

from agents.box.updates.slots.slot_work import hash_slot, slot_bytes
from hal.emul.partition import EmulPartition
from imaging.build.build import BuildResult, build
from imaging.build.types import BuildFailed, BuildRequest, InvalidBuildRequest
from imaging.media.bmap import parse
from imaging.programs import PrerequisiteMissing
from imaging.signing import load_public_key, make_key, read_manifest
from tests.support.imaging.small_system import (
    EFI_PROGRAMS,
    HMAC,
    INITRAMFS,
    KICKSTART,
    need_tools,
    small_repository,
)

POST = "%post --erroronfail --log=/var/post.log"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an image's files belong to many users")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_tools()
    return small_repository(tmp_path_factory.mktemp("mock-repo") / "repo")


@pytest.fixture(scope="module")
def first(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    return _build(tmp_path_factory.mktemp("first"), repository)


def _build(folder: Path, repository: Path, text: str = KICKSTART) -> BuildResult:
    """Build the image of a kickstart with this text in `folder`."""
    kickstart = folder / "box.ks"
    kickstart.write_text(text)
    request = BuildRequest(kickstart, "RHEL9", (str(repository),), folder / "out", folder / "work")
    return build(request, lambda _name, _kept: None, lambda _line: None)


@pytest.mark.slow("an image is built twice")
def test_builds_in_another_folder_time_zone_and_host_are_identical(
    first: BuildResult, repository: Path
) -> None:
    with tempfile.TemporaryDirectory(
        prefix="another folder ", dir="/var/tmp"
    ) as folder:  # pytest's folders are in /tmp
        _check_same_elsewhere(first, repository, Path(folder))


def _check_same_elsewhere(first: BuildResult, repository: Path, folder: Path) -> None:
    """Build again with another host name, umask, time zone and hash seed; compare the images."""
    (folder / "box.ks").write_text(KICKSTART)
    command = [
        sys.executable,
        "-m",
        "rap",
        "image",
        "build",
        folder / "box.ks",
        "--repo",
        repository,
        "-o",
        folder / "out",
        "--json",
    ]
    elsewhere = [
        "unshare",
        "--uts",
        "sh",
        "-c",
        'echo elsewhere > /proc/sys/kernel/hostname; umask 077; exec "$@"',
        "sh",
        *map(str, command),
    ]
    done = subprocess.run(
        elsewhere,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sha256"] == first.sha256


def test_file_systems_are_consistent_and_contain_their_parts(first: BuildResult, tmp_path: Path) -> None:
    record = json.loads(first.image.with_suffix(".build.json").read_text())
    entries = {}
    for partition in record["partitions"]:
        if partition["format"] == "ext4":
            device = f"{first.image}?offset={partition['offset']}"
            subprocess.run(["e2fsck", "-fn", device], check=True, capture_output=True)
            listed = subprocess.run(
                ["debugfs", "-R", "ls -p /", device], check=True, capture_output=True, text=True
            )
            entries[partition["mount"]] = _names(listed.stdout)
            if partition["mount"] == "/":
                command = ["debugfs", "-R", "ls -p /boot", device]
                entries["kernel"] = _names(
                    subprocess.run(command, check=True, capture_output=True, text=True).stdout
                )
    assert {"grub2", "loader"} <= entries["/boot"]
    assert not {"vmlinuz-1.0", "slot.cfg"} & entries["/boot"]
    assert {"usr", "etc", "boot", "var", "bin"} <= entries["/"]
    assert {"vmlinuz-1.0", ".vmlinuz-1.0.hmac", "initramfs-1.0.img", "slot.cfg"} <= entries["kernel"]
    assert "log" in entries["/var"]


_READ: Final = 'mount --bind "$1" /mnt && mount -o remount,bind,ro /mnt && rpm --dbpath /mnt -q bash kernel'


def test_the_package_database_is_in_the_slot_and_can_be_read_there(
    first: BuildResult, tmp_path: Path
) -> None:
    """So an update replaces it together with the packages. As on a box, rpm can write nothing beside it."""
    record = json.loads(first.image.with_suffix(".build.json").read_text())
    devices = {
        partition["mount"]: f"{first.image}?offset={partition['offset']}"
        for partition in record["partitions"]
    }
    for mount, folder in (("/", "/usr/lib/sysimage/rpm"), ("/var", "/lib/rpm")):
        (to := tmp_path / mount.strip("/")).mkdir(exist_ok=True)
        command = ["debugfs", "-R", f'rdump {folder} "{to}"', devices[mount]]
        subprocess.run(command, check=True, capture_output=True)
    assert not list((tmp_path / "var/rpm").iterdir())
    command = ["unshare", "--mount", "sh", "-c", _READ, "sh", str(tmp_path / "rpm")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    command = ["debugfs", "-R", "cat /etc/fstab", devices["/"]]
    fstab = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "/usr/lib/sysimage/rpm /var/lib/rpm none bind,ro,nodev,nosuid,noexec,nofail 0 0" in fstab


def test_the_build_record_has_the_slot_that_a_box_hashes(first: BuildResult, tmp_path: Path) -> None:
    record = json.loads(first.image.with_suffix(".build.json").read_text())
    partition = next(partition for partition in record["partitions"] if partition["mount"] == "/")
    with first.image.open("rb") as file:
        file.seek(partition["offset"])
        content = file.read(partition["length"])
    slot = EmulPartition(len(content), Random(1), content)
    *_, sha256 = hash_slot(slot, slot_bytes(slot))
    assert record["slot"] == {"bytes": slot_bytes(slot), "sha256": sha256}
    assert record["slot"]["bytes"] < partition["length"]


def _names(listing: str) -> set[str]:
    """Return the file names in the output of debugfs's `ls -p`."""
    return {line.split("/")[5] for line in listing.splitlines() if line.count("/") > 5}


def test_a_kernel_in_fips_mode_finds_its_checksum_in_the_slot(first: BuildResult) -> None:
    tree = next((first.image.parent.parent / "work").glob("system-*")) / "tree"
    (entry,) = (tree / "boot/loader/entries").iterdir()
    for text in ((tree / "boot/slot.cfg").read_text(), entry.read_text()):
        (line,) = [
            line for line in text.splitlines() if line.split()[0] in ("linux", "options") and "fips=1" in line
        ]
        assert "boot=" not in line  # with it, dracut would look for the checksum in the boot partition
    assert (tree / "boot/.vmlinuz-1.0.hmac").read_text() == f"{HMAC}  /boot/vmlinuz-1.0\n"
    assert (tree / "boot/initramfs-1.0.img").read_text().split() == INITRAMFS.split()


@pytest.mark.slow("an image is built")
def test_without_fips_mode_the_initramfs_has_no_fips_module(repository: Path, tmp_path: Path) -> None:
    built = _build(tmp_path, repository, KICKSTART.replace('"fips=1"', '"fips=0"'))
    tree = next((built.image.parent.parent / "work").glob("system-*")) / "tree"
    assert not (tree / "boot/initramfs-1.0.img").read_text()


def test_post_runs_without_network_and_without_the_builders_host_name(first: BuildResult) -> None:
    tree = next((first.image.parent.parent / "work").glob("system-*")) / "tree"
    assert (tree / "etc/built-on").read_text() == "localhost 3\n"  # two lines of heading, and lo
    assert (tree / "etc/machine-id").read_text() == ""
    assert not list((tree / "var/log").iterdir())
    assert (tree / "etc/hostname").read_text() == "box\n"


@pytest.mark.slow("an image is built")
def test_a_build_writes_the_image_its_map_and_a_signed_manifest(repository: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "key.pem", tmp_path / "public.pem")
    (kickstart := tmp_path / "box.ks").write_text(KICKSTART)
    request = BuildRequest(
        *(kickstart, "RHEL9", (str(repository),), tmp_path / "out", tmp_path / "work"),
        key=tmp_path / "key.pem",
        compress=True,
    )
    built = build(request, lambda _name, _kept: None, lambda _line: None)
    manifest, _ = read_manifest(
        built.image.with_suffix(".manifest.json"), load_public_key(tmp_path / "public.pem")
    )
    assert {file.name for file in manifest.files} == {
        "box.raw",
        "box.raw.zst",
        "box.bmap",
        "box.ks",
        "box.spdx.json",
        "box.build.json",
    }
    entry = manifest.file("box.raw")
    assert entry is not None and entry.sha256 == built.sha256
    assert parse(built.image.with_suffix(".bmap").read_bytes()).image_bytes == built.disk_bytes
    spdx = json.loads(built.image.with_suffix(".spdx.json").read_text())
    assert {"bash", "grub2-pc", "kernel"} <= {package["name"] for package in spdx["packages"]}


@pytest.mark.slow("an image is built")
def test_an_interrupted_build_is_resumed(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=f"%post on line {KICKSTART.splitlines().index(POST) + 1}:"):
        _build(
            tmp_path,
            repository,
            KICKSTART.replace("date > /var/log/today", "exit 9"),
        )
    kept = {}
    kickstart = tmp_path / "box.ks"
    kickstart.write_text(KICKSTART)
    request = BuildRequest(kickstart, "RHEL9", (str(repository),), tmp_path / "out", tmp_path / "work")
    build(request, lambda name, was_kept: kept.update({name: was_kept}), lambda _line: None)
    assert kept == {"packages": True, "system": False, "disk": False, "outputs": False}


def test_files_of_the_esp_are_stored_in_the_order_of_their_names(first: BuildResult) -> None:
    record = json.loads(first.image.with_suffix(".build.json").read_text())
    partition = next(partition for partition in record["partitions"] if partition["format"] == "efi")
    listed = subprocess.run(
        ["mdir", "-b", "-i", f"{first.image}@@{partition['offset']}", "::/EFI/BOOT"],
        check=True,
        capture_output=True,
        text=True,
    )
    names = [line.rpartition("/")[2] for line in listed.stdout.splitlines()]
    assert names == [*sorted(EFI_PROGRAMS), "grub.cfg"]


def test_the_cached_tree_is_not_changed_by_the_build_of_the_disk(first: BuildResult) -> None:
    tree = next((first.image.parent.parent / "work").glob("system-*")) / "tree"
    assert [path.name for path in (tree / "var/lib/rpm").iterdir()] == ["rpmdb.sqlite"]


def test_a_full_disk_is_reported(repository: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", small], check=True)
    try:
        with pytest.raises(PrerequisiteMissing, match=r"disk is full|No space left"):
            _build(small, repository)
        mounts = Path("/proc/mounts").read_text()
        assert [line for line in mounts.splitlines() if str(small) in line] == [
            f"tmpfs {small} tmpfs rw,relatime,size=24576k 0 0"
        ]
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_full_disk_leaves_the_previous_image(repository: Path, tmp_path: Path) -> None:
    (small := tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        (small / "box.raw").write_text("the previous image")
        (kickstart := tmp_path / "box.ks").write_text(KICKSTART)
        request = BuildRequest(kickstart, "RHEL9", (str(repository),), small, tmp_path / "work")
        with pytest.raises(PrerequisiteMissing, match="disk is full"):
            build(request, lambda _name, _kept: None, lambda _line: None)
        assert {path.name: path.read_text() for path in small.iterdir()} == {"box.raw": "the previous image"}
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_missing_repository_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InvalidBuildRequest, match="is not a repository"):
        _build(tmp_path, tmp_path / "nowhere")
    assert not (tmp_path / "out").exists() and not (tmp_path / "work").exists()


def test_an_unknown_package_is_named(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidBuildRequest, match="no repository has no-such-package; add a repository that has it"
    ):
        _build(tmp_path, repository, KICKSTART.replace("bash\n", "bash\nno-such-package\n", 1))


@pytest.mark.parametrize("index", ["<repomd", "<repomd/>"])
def test_a_damaged_repository_is_reported(index: str, tmp_path: Path) -> None:
    need_tools()
    (tmp_path / "repo/repodata").mkdir(parents=True)
    (tmp_path / "repo/repodata/repomd.xml").write_text(index)
    with pytest.raises(InvalidBuildRequest, match=f"--repo {tmp_path / 'repo'}: "):
        _build(tmp_path, tmp_path / "repo")


def test_an_invalid_time_is_reported(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(InvalidBuildRequest, match="SOURCE_DATE_EPOCH=yesterday: is not a whole number"):
        _build(tmp_path, repository)


@pytest.mark.parametrize("name", ["out", "work"])
def test_a_file_in_place_of_a_folder_is_reported(name: str, repository: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(InvalidBuildRequest, match=f"{tmp_path / name}: is not a folder"):
        _build(tmp_path, repository)


def test_an_unsupported_command_ends_the_build_with_status_2(tmp_path: Path) -> None:
    kickstart = tmp_path / "box.ks"
    kickstart.write_text(KICKSTART.replace("lang en_US.UTF-8", "nfs --server=a --dir=/b"))
    done = subprocess.run(
        [sys.executable, "-m", "rap", "image", "build", kickstart, "--repo", tmp_path],
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 2
    assert f"{kickstart}:3: nfs: `rap image build` does not support this command" in done.stderr
