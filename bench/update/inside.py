"""The system of an updated box, examined from inside: `python -m bench.update --only inside`. Needs root.

Two images are built whose packages differ: a probe with files in /usr, /etc and /var has a higher version in the
second. A box is flashed with the first, a person changes a password on it, and staff roll the second one out to it
by `rap dc rollout`. In the new slot rpm and AIDE must find no change, the changed password must be in force, and the
labels must be those of SELinux's policy. A data release transfers a profile to the box and a help file to its
instrument. Then a release is rolled out that starts and whose firewall cannot be put in force: the box must leave it
after at most three starts, refuse it when it is ordered again, and be unchanged.

rpm and AIDE are Debian's, on packages of the mock repository. It takes 45 minutes, 15 of them the wait for a release
to become healthy.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import select

from agents.provision.box import RELEASES_ROOT
from bench.figures import Figure, figure, run
from datacenter.store.store import Store
from datacenter.store.tables.schema import commands
from imaging.mock_repo.rpms import Stub, make_stubs
from imaging.release.slot_image import extract_slot, find_slot
from imaging.release.slot_image import slot_sha256 as sha256_of_slot
from imaging.signing import make_key
from settings import slots
from settings.profile import DIRECTORY, load_profile
from sim.worlds.image.releases import change_slot
from tests.support.eventually import eventually, poll_until
from tests.support.imaging.more_packages import add_debs
from tests.support.imaging.releases import key_file
from tests.support.imaging.starts import guest_shell
from tests.support.imaging.starts.emulated import Machine
from tests.support.imaging.starts.first_report import (
    CABLES,
    build_image,
    datacenter,
    flashed,
    plug_in,
    reporting,
    submit,
)
from tests.support.imaging.starts.guest_shell import GuestShell, file_script
from tests.support.imaging.starts.start_after_cut import slot_sha256
from tests.support.namespaces import own_network
from tests.support.paths import ROOT
from wire.messages import Command, Outcome

OUTCOME_SECONDS_MAX: Final = 2400.0
"""A limit that prevents hanging on a busy machine; it is not a target."""
STARTS_MAX: Final = 3
REPORT_SECONDS: Final = 10.0
SYSTEM, DATA, UNHEALTHY = 2, 3, 4
"""The numbers of the releases after that of the flashed image."""
MODEL: Final = "chemistry-analyzer"
HELP: Final = b"How to clear an error.\n" * 500
PASSWORD: Final = "a-Changed-passw0rd"
_AIDE_CONF: Final = """\
@@define DBDIR /var/lib/aide
database_in=file:@@{DBDIR}/aide.db.gz
database_out=file:@@{DBDIR}/aide.db.new.gz
gzip_dbout=yes
report_url=stdout
CONTENT = sha512+ftype
CONTENT_EX = sha512+ftype+p+u+g+n+acl+selinux+xattrs
/boot CONTENT_EX
/usr CONTENT_EX
/opt CONTENT_EX
/root CONTENT_EX
!/etc/mtab$
/etc CONTENT_EX
"""
"""As RHEL 9's package configures AIDE, for the folders of a slot."""
_AIDE: Final = '#!/bin/sh\nexec /usr/bin/aide --config=/etc/aide.conf "$@"\n'
"""RHEL's path; Debian's AIDE has no default configuration."""
_RPM: Final = "rpm --dbpath /var/lib/rpm"
"""Debian's rpm has its database elsewhere by default."""
_STAFF: Final = """\
[staff.engineer]
roles = ["service-engineer"]
scope = ["everywhere"]
trainings = { chemistry-analyzer = 2099-01-01 }
[staff.chief]
roles = ["supervisor"]
scope = ["everywhere"]
"""
_PLAN: Final = 'release = {number}\nplace = "everywhere"\nwaves = [100]\nobserve_hours = 0\n'
_OF_SITE: Final = re.compile(r"^\S+ +(?:c )?/etc/")
"""Files that the kickstart and provisioning change; RHEL's packages mark them as configuration."""
_OF_STAND_IN: Final = re.compile(
    r" /(proc|sys|boot/.*|(etc|var/lib)/polkit-1.*|usr/lib/dbus-1.0/.*|run/rap-page)$"
)
"""Folders of Debian's packages over which file systems are mounted, and files whose user or group is not in the
image: that of the page's socket is httpd's, which an image without sessions has as an empty package."""
_STARTED: Final = "Booting `"
"""A text that GRUB prints on the console at each start."""
_LABELS: Final = """\
mkdir -p /run/tree
mount --bind / /run/tree
sed '{change}' /etc/selinux/targeted/contexts/files/file_contexts > /run/contexts
setfiles -n -v -F -r /run/tree /run/contexts /run/tree 2>&1 | grep -i relabel
umount /run/tree
"""
"""Prints a line for each file of the slot that has another label; the bind mount shows what other mounts hide."""


class SystemState(NamedTuple):
    """The state of the running system."""

    slot: str
    probe: str
    """The version of the probe that the package database has."""
    rpm: list[str]
    """Lines of `rpm -Va`."""
    aide: int
    """Exit status of `aide --check`: 0 if nothing differs."""
    shadow: str
    """The hash of the changed password in force."""


class StartedBox:
    """The started box with its shell, and the data center's commands."""

    def __init__(self, folder: Path, machine: Machine, socket: Path) -> None:
        self.folder, self._machine = folder, machine
        self.shell = GuestShell(socket)

    def examine(self) -> SystemState:
        """Examine the system as its own timers do, first the database of the release that runs."""
        database = self.shell.run("/usr/libexec/rap/aide-database")
        _log(f"aide-database: {database.status} {database.output}")
        aide_check = self.shell.run("/usr/sbin/aide --check")
        _log(f"aide --check: {aide_check.status}\n{aide_check.output[-4000:]}")
        verified = self.shell.run(f"{_RPM} -Va")
        _log(f"rpm -Va:\n{verified.output}")
        return SystemState(
            self._read("sed -n 's/.*rap.slot=\\([ab]\\).*/\\1/p' /proc/cmdline"),
            self._read(f"{_RPM} -q --queryformat '%{{VERSION}}' probe"),
            sorted(verified.output.splitlines()),
            aide_check.status,
            self._read("sed -n 's/^labadmin:\\([^:]*\\):.*/\\1/p' /etc/shadow"),
        )

    @property
    def starts(self) -> int:
        """Return the number of starts of the machine."""
        return self._machine.log().count(_STARTED)

    def _read(self, script: str) -> str:
        return self.shell.run(script).output.strip()

    def roll_out(self, number: int) -> dict[str, Any]:
        """Roll a release out as staff, and return the ended rollout."""
        (plan := self.folder / "plan.toml").write_text(_PLAN.format(number=number))
        proposed = self._staff("propose", plan, "--json", by="engineer")
        rollout = str(proposed["id"])
        self._staff("approve", rollout, "--json", by="chief")
        until = time.monotonic() + OUTCOME_SECONDS_MAX
        while True:
            shown = self._staff("show", rollout, "--json", by="engineer")
            if shown["state"] != "running":
                _log(json.dumps(shown))
                return shown
            if time.monotonic() > until:
                raise TimeoutError(f"rollout {rollout} has not ended; the box: {self._machine.log()[-3000:]}")
            time.sleep(2)

    def _staff(self, verb: str, *arguments: object, by: str) -> dict[str, Any]:
        shown = _rap("dc", "rollout", verb, *arguments, "--config", self.folder / "dc.toml", "--as", by)
        document: dict[str, Any] = json.loads(shown)
        return document


def build(folder: Path) -> Path:
    """Build both images, and release them, and a third one that is unhealthy. Returns the folder of the releases."""
    root_keys = [key_file(folder, f"root{number}") for number in range(3)]
    keys = ["--targets-key", key_file(folder, "targets"), "--online-key", key_file(folder, "online")]
    releases = folder / "releases"
    make_key(folder / "key.pem", folder / "key.pub")
    root_options = [option for key in root_keys for option in ("--root-key", key)]
    _rap("image", "release", "create", releases, *root_options, *keys)
    post = _kickstart(releases / "metadata/1.root.json")
    for number in (1, 2):
        (image_folder := folder / f"image{number}").mkdir()
        (packages := image_folder / "rpm").mkdir()
        add_debs(packages, "inside", ["aide", "rpm"], {"aide": ["debian-aide"]})
        make_stubs(packages, {"probe": _probe(number)})
        began = time.monotonic()
        image = build_image(
            image_folder, "systemd.journald.forward_to_console=1", post, key=folder / "key.pem"
        )
        _log(f"image {number}: {time.monotonic() - began:.0f} s")
        source = ["--delta-from", "1.1.0"] if number > 1 else []
        named = ["--release", f"1.{number}.0", "--number", number, *source]
        _log(_rap("image", "release", "add-slot", releases, image, *named, *keys))
    release_data(folder, releases, *keys)
    if (slot := find_slot(image)) is None:
        raise AssertionError("an image has a slot")
    extract_slot(image, slot, bad := folder / "bad.img")
    change_slot(bad, UNHEALTHY, "unhealthy")
    named = ["--release", "1.4.0", "--number", UNHEALTHY, "--delta-from", "1.2.0"]
    _log(_rap("image", "release", "add-slot", releases, bad, *named, *keys))
    return releases


def release_data(folder: Path, releases: Path, *keys: object) -> None:
    """Release new profiles and a help file for the instrument's model."""
    files = folder / "files"
    for path, content in (("profiles", profile_text()), (f"help/{MODEL}", HELP)):
        (files / path).mkdir(parents=True)
        name = f"{MODEL}.toml" if path == "profiles" else "errors.txt"
        (files / path / name).write_bytes(content)
    _log(
        _rap("image", "release", "add-data", releases, files, "--release", "data-3", "--number", DATA, *keys)
    )


def profile_text() -> bytes:
    """Return a later version of the model's profile, with one more assay."""
    text, version = (DIRECTORY / f"{MODEL}.toml").read_text(), load_profile(MODEL).version
    text = re.sub("^version = .*$", f"version = {version + 1}", text, flags=re.M)
    return text.replace("[assays]\n", '[assays]\nlater = "Later assay"\n').encode()


def _kickstart(root: Path) -> str:
    return f"""
%packages
debian-aide
rpm
probe
%end
%post --erroronfail
set -e
mkdir -p {RELEASES_ROOT.parent} /var/lib/aide
{file_script(str(RELEASES_ROOT), root.read_text())}{file_script("/etc/aide.conf", _AIDE_CONF)}\
{file_script("/usr/sbin/aide", _AIDE)}chmod 755 /usr/sbin/aide
%end
{guest_shell.KICKSTART}"""


def _probe(number: int) -> Stub:
    """Return a package whose second version has other files, and a new folder of /var."""
    text = f"version {number}\n"
    files = {"usr/share/probe/data": text, "etc/probe.conf": text, "usr/bin/probe": f"#!/bin/sh\necho {text}"}
    return Stub(files, folders=["var/lib/probe-2"] if number > 1 else [], version=f"{number}-1")


def examine(folder: Path, releases: Path) -> list[Figure]:
    """Flash the first image, start it, and follow the box through all rollouts."""
    (box_folder := folder / "box").mkdir()
    disk = flashed(folder / "image1/out/box.raw", folder / "key.pub", box_folder)
    (box_folder / "staff.toml").write_text(_STAFF)
    tables = f'[releases]\nfolder = "{releases}"\n[staff]\ndirectory = "staff.toml"\nport = 0\ndevelopment = true\n'
    with own_network(), (box_folder / "dc.toml").open("a") as configuration:
        configuration.write(tables)
        configuration.flush()
        plug_in()
        subprocess.run(
            ["ip", "link", "set", "lo", "up"], check=True
        )  # for the pages of the data center's staff
        socket = folder / "shell.sock"
        machine = Machine(box_folder, disk, CABLES, keep=True, more=guest_shell.options(socket))
        try:
            measured = asyncio.run(_watch(StartedBox(box_folder, machine, socket)))
        except BaseException:
            _log(machine.log()[-6000:])
            raise
        finally:
            machine.stop()
    is_built = _is_built(disk, folder / "image2/out/box.raw")
    return [*measured, figure("updated slots with the bytes of the built image", "", int(is_built), ">= 1")]


class HelpedInstrument:
    """An instrument that keeps the received help files."""

    def __init__(self) -> None:
        self.files: list[bytes] = []

    async def consent(self, _command: Command, _content: bytes) -> bool:
        """Consent to everything."""
        return True

    async def execute(self, command: Command, content: bytes) -> Outcome | bytes:
        """Keep a help file."""
        assert command.verb == "help-file", command
        self.files.append(content)
        return "done"


async def _watch(box: StartedBox) -> list[Figure]:
    instrument = HelpedInstrument()
    async with datacenter(box.folder), reporting(box.folder, instrument=instrument) as agent:

        async def report() -> None:
            while True:
                submit(agent)
                await asyncio.sleep(REPORT_SECONDS)

        reports = asyncio.create_task(report())
        try:
            async with asyncio.timeout(OUTCOME_SECONDS_MAX):
                await eventually(lambda: agent.made > 1 and not agent.waiting, None, every_s=1)
            return await asyncio.to_thread(lambda: list(_follow(box, instrument)))
        finally:
            reports.cancel()


def _follow(box: StartedBox, instrument: HelpedInstrument) -> Iterator[Figure]:
    changed = box.shell.run(
        f"echo labadmin:{PASSWORD} | chpasswd && systemctl start rap-keep-passwords.service"
    )
    assert changed.status == 0, changed.output
    before = box.examine()
    updated = box.roll_out(SYSTEM)
    after, starts = box.examine(), box.starts
    yield figure("starts of the machine for an update", "", starts - 1, "<= 1")
    yield figure("boxes that committed the release", "", _count(updated, "committed"), ">= 1")
    yield figure(
        "  with the packages of the release", "", int((after.slot, after.probe) == ("b", "2")), ">= 1"
    )
    yield from _unchanged("after the update", before, after)
    yield from _label_figures(box)
    yield from _data_figures(box, instrument)
    returned = box.roll_out(UNHEALTHY)
    yield figure("boxes that returned from an unhealthy release", "", _failed(returned, "returned"), ">= 1")
    # each start of the release, and one of the old slot
    yield figure("  starts of the unhealthy release", "", box.starts - starts - 1, f"<= {STARTS_MAX}")
    back = box.examine()
    yield figure("  with the slot and the packages from before", "", int(back[:2] == after[:2]), ">= 1")
    yield from _unchanged("after the return", before, back)
    again = box.roll_out(UNHEALTHY)
    yield figure("orders of that release that are refused", "", _failed(again, "refused"), ">= 1")
    yield figure("starts because of the refused order", "", box.starts - starts - 2, "<= 0")


def _data_figures(box: StartedBox, instrument: HelpedInstrument) -> Iterator[Figure]:
    """Roll out a data release with a help file for the instrument, and wait until the instrument has it."""
    begun, starts = time.monotonic(), box.starts
    rollout = box.roll_out(DATA)
    yield figure("boxes that committed a data release", "", _count(rollout, "committed"), ">= 1")
    poll_until(lambda: bool(instrument.files), OUTCOME_SECONDS_MAX, every_s=1)
    yield figure("  help files that the instrument has", "", instrument.files.count(HELP), ">= 1")
    yield figure("  seconds from the order until then, 180 of them the trial", "s", time.monotonic() - begun)
    yield figure("  starts of the machine for it", "", box.starts - starts, "<= 0")
    store = Store(f"sqlite:///{box.folder}/reports.db")
    try:
        fetched = [row.transferred_bytes for row in store.read(select(commands))]
    finally:
        store.close()
    yield figure("  bytes of the help file that the box fetched for the command", "", sum(fetched), "<= 0")


def _unchanged(when: str, before: SystemState, now: SystemState) -> Iterator[Figure]:
    outside = [line for line in now.rpm if not (_OF_SITE.search(line) or _OF_STAND_IN.search(line))]
    yield figure(f"{when}: files that AIDE finds changed", "exit status", now.aide, "<= 0")
    yield figure(f"{when}: files outside of /etc that differ from their package", "", len(outside), "<= 0")
    yield figure(
        f"{when}: other files of /etc than before that differ", "", len({*now.rpm} ^ {*before.rpm}), "<= 0"
    )
    yield figure(
        f"{when}: passwords that are not the changed one", "", int(now.shadow != before.shadow), "<= 0"
    )


def _count(rollout: dict[str, Any], state: str) -> int:
    return sum(int(wave[state]) for wave in rollout["waves"])


def _failed(rollout: dict[str, Any], state: str) -> int:
    return sum(failed["state"] == state for failed in rollout["failures"])


def _label_figures(box: StartedBox) -> Iterator[Figure]:
    """Compare the labels of the running slot with the policy, and with one that demands others."""
    _log(wrong := box.shell.run(_LABELS.format(change="")).output)
    other = box.shell.run(_LABELS.format(change="s/:usr_t:/:other_t:/")).output
    yield figure("files whose label is not that of the policy", "", len(wrong.splitlines()), "<= 0")
    yield figure("  that differ from a policy with other labels", "", len(other.splitlines()), ">= 1000")


def _is_built(disk: Path, image: Path) -> bool:
    """Return whether the box's slot b has the bytes of slot a of a built image."""
    slot = find_slot(image)
    assert slot is not None, "an image has a slot"
    return slot_sha256(disk, slots.PARTITIONS["b"]) == sha256_of_slot(image, slot)


def figures() -> list[Figure]:
    """Return all figures, and print the state of the box to standard error."""
    with tempfile.TemporaryDirectory(prefix="rap-inside-", dir="/var/tmp") as name:
        folder = Path(name)
        return examine(folder, build(folder))


def _rap(*arguments: object) -> str:
    command = [sys.executable, "-m", "rap", *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}: {result.stderr}"
    return result.stdout


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(figures, __doc__)
