"""The releases of a lab in the image world, made from the flashed slot and signed by keys of the lab.

Release 1 is the slot as it was flashed, with the root of the lab's metadata instead of the vendor's. Each later one
is made from the release that the box then runs, by changes that cause the ordered behavior. debugfs makes the changes
in the file system, without mounting it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

from agents.provision.box import RELEASES_ROOT
from imaging.build.boot.slot_script import SLOT_SCRIPT
from imaging.flash import gpt
from imaging.media.imagefile import sha256_of
from imaging.release.application import APPLICATION, changes_only_application
from imaging.release.data import add_data
from imaging.release.delta import make_delta
from imaging.release.repository import NewRelease, ReleaseRepository, RoleKeyFiles
from imaging.release.slot_image import SlotExtent, SlotImageError, extract_slot, find_slot
from settings import slots
from settings.profile import Model
from sim.faults.box.update import OrderedRelease, ProfileRelease, ReleaseHealth
from sim.updates.releases import APPLICATIONS, PROFILES, profile_release
from sim.worlds.image.disk.client import FOLDER
from sim.worlds.image.refusals import MIB
from sim.worlds.shared.refusals import ImageRefused
from wire.pki.signature import new_key_pair
from wire.release.data import render_manifest
from wire.release.messages import Kind

MAKING_SECONDS_MAX: Final = 300.0
"""Time limit for making one release on a busy machine: the slot is copied, compared and hashed."""
MARK: Final = "/usr/share/rap/lab-release"
"""The file with the release's number, in its slot."""
APPLICATION_MARK: Final = f"{APPLICATION}python/lab-release"
"""The same file in the application of a release that changes nothing else."""
_PROGRAMS: Final[dict[ReleaseHealth, str]] = {
    "unhealthy": f"{APPLICATION}python/netfw/service/main.py",
    "unstartable": f"{APPLICATION}python/agents/box/main.py",
}
"""The modules whose programs end at once."""
_FIREWALL: Final = "/usr/libexec/rap/firewall"
_NO_FIREWALL: Final = "#!/bin/sh\nexit 1\n"
_ROOT_KEYS: Final = 3


class ImageReleases:
    """The folder of the lab's releases, which is empty until `make`."""

    def __init__(self, folder: Path, orders: Sequence[OrderedRelease], models: Collection[Model]) -> None:
        """`orders` are the ordered releases, in order and numbered from 2; `models` are the models of the lab."""
        self._orders, self._models, self._keys_folder = orders, models, folder / "release-keys"
        self._keys_folder.mkdir()
        self._keys = RoleKeyFiles(self._key("targets"), self._key("online"))
        self._repository = ReleaseRepository(folder / "releases")
        roots = [self._key(f"root{number}") for number in range(_ROOT_KEYS)]
        self._repository.create(roots, self._keys, datetime.now(UTC))
        self._next = 2

    def _key(self, name: str) -> Path:
        (path := self._keys_folder / f"{name}.pem").write_bytes(new_key_pair()[0])
        return path

    @property
    def folder(self) -> Path:
        """The folder, for the data center."""
        return self._repository.folder

    def next(self) -> int | None:
        """Return the number of the release to order now; None after the last one."""
        if self._next > len(self._orders) + 1:
            return None
        self._next += 1
        return self._next - 1

    def kind(self, number: int) -> Kind:
        """Return the kind of a release."""
        order = self._orders[number - 2]
        return "data" if order in PROFILES else "application" if order in APPLICATIONS else "system"

    def make(self, disk: Path) -> None:
        """Put the root of the metadata into slot a of the flashed disk, and make all releases.

        Raises: ImageRefused.
        """
        slot = _slot_of(disk)
        root = self._repository.metadata / "1.root.json"
        _replace(f"{disk}?offset={slot.offset}", str(RELEASES_ROOT), root)
        with TemporaryDirectory(dir=FOLDER, prefix="rap-releases-") as name:
            folder = Path(name)
            running = folder / "1.img"
            extract_slot(disk, slot, running)
            for number, order in enumerate(self._orders, 2):
                if order in PROFILES:
                    self._release_profiles(number, cast(ProfileRelease, order), folder)
                    continue
                target = folder / f"{number}.img"
                shutil.copyfile(running, target)
                health = APPLICATIONS.get(order)
                if health is None:
                    health = cast(ReleaseHealth, order)
                    change_slot(target, number, health)
                else:
                    _change_application(target, number, health)
                self._release(running, target, number)
                (target if health != "healthy" else running).unlink()
                running = target if health == "healthy" else running

    def _release_profiles(self, number: int, which: ProfileRelease, folder: Path) -> None:
        contents, files = profile_release(self._models, number, which), dict[str, Path]()
        for index, (path, content) in enumerate(contents.items()):
            files[path] = folder / f"{number}-{index}"
            files[path].write_bytes(content)
        release = NewRelease(f"profiles-{number}", number, 0)
        add_data(self._repository, files, render_manifest(contents), release, self._keys, datetime.now(UTC))

    def _release(self, source: Path, target: Path, number: int) -> None:
        delta = target.with_name(f"{number}.delta")
        delta.write_bytes(make_delta(source, target))
        custom: dict[str, Any] = {
            "release": f"1.{number}.0",
            "number": number,
            "source": sha256_of(source),
            "target": sha256_of(target),
            "bytes": target.stat().st_size,
        }
        if self.kind(number) == "application":
            assert changes_only_application(source, target), (
                "a release of the application changes something else"
            )
            custom |= {"kind": "application", "application": True}
        self._repository.add_all({f"deltas/{number}": (delta, custom)}, self._keys, datetime.now(UTC))


def _slot_of(disk: Path) -> SlotExtent:
    """Return the partition of slot a; slot b must be as large. Raises: ImageRefused."""
    try:
        slot = find_slot(disk)
    except SlotImageError as error:
        raise ImageRefused(str(error)) from None
    with disk.open("rb") as file:
        lengths = {part.label: part.length for part in gpt.slices(file.read(MIB))}
    length_b = lengths.get(slots.PARTITIONS["b"], 0)
    if slot is None or length_b < slot.length:
        needed = f"at least the {slot.length:,} bytes of slot a" if slot else "two root slots"
        label = slots.PARTITIONS["b"]
        raise ImageRefused(
            f"the image cannot be updated: its partition {label} has {length_b:,} bytes; build it with {needed}"
        )
    return slot


def change_slot(slot: Path, number: int, health: ReleaseHealth) -> None:
    """Turn a copy of a slot into a release with this health."""
    device, work = str(slot), slot.with_name("work")
    work.write_text(f"{number}\n")
    _replace(device, MARK, work)
    if health == "unhealthy":
        work.write_text(_NO_FIREWALL)
        _replace(device, _FIREWALL, work, mode=0o100755)
    if health == "unstartable":  # without an initramfs the kernel does not find its root
        script = _debugfs(device, f"cat /{SLOT_SCRIPT}\n")
        work.write_text("".join(_without_initramfs(script)))
        _replace(device, f"/{SLOT_SCRIPT}", work)


def _change_application(slot: Path, number: int, health: ReleaseHealth) -> None:
    """Turn a copy of a slot into a release with this health that differs only in its application."""
    device, work = str(slot), slot.with_name("work")
    work.write_text(f"{number}\n")
    _replace(device, APPLICATION_MARK, work)
    if health != "healthy":
        work.write_text("raise SystemExit(1)\n")
        module = PurePosixPath(_PROGRAMS[health])
        _replace(device, str(module), work)
        cache = module.parent / "__pycache__"  # Python does not compare this byte code with the source
        for name in re.findall(rf"\b{module.stem}\.[\w-]+\.pyc", _debugfs(device, f'ls "{cache}"\n')):
            _debugfs(device, f'rm "{cache / name}"\n')


def _without_initramfs(script: str) -> Iterator[str]:
    for line in script.splitlines(keepends=True):
        if not line.startswith(("initrd", "debugfs:")):
            yield line


def _replace(device: str, path: str, source: Path, mode: int = 0o100644) -> None:
    """Write a file owned by root into a file system that is not mounted, replacing an existing one."""
    folder, _, name = path.rpartition("/")
    requests = [f'cd "{folder}"', f"rm {name}", f'write "{source}" {name}', f"sif {name} mode 0{mode:o}"]
    requests += [f"sif {name} uid 0", f"sif {name} gid 0"]
    _debugfs(device, "\n".join(requests) + "\n")
    if not _debugfs(device, f'stat "{path}"\n').count("Inode:"):
        raise ImageRefused(f"the image has no folder {folder}; build it with the box's package")


def _debugfs(device: str, requests: str) -> str:
    command = ["debugfs", "-w", "-f", "-", device]
    environment = {**os.environ, "DEBUGFS_PAGER": "cat"}
    result = subprocess.run(
        command, input=requests, capture_output=True, text=True, check=True, env=environment
    )
    return result.stdout
