"""The units for updates without a restart of the machine, run by systemd in separate namespaces.

Slot b is a real file system. The box program of each slot writes down its path; that of slot a requests slot b.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imaging.rpm.contents import RECIPE
from settings import slots
from settings.slots import SlotState

SYSTEMD = Path("/lib/systemd/systemd")
ROOT_TREE = RECIPE / "root"
INSIDE = "/run/test"
"""The path at which systemd sees the test's folder, because its units have a private /tmp."""
SECONDS_MAX = 120
"""Only prevents hanging; generous enough for a busy machine."""
PROGRAM = """\
import signal
from pathlib import Path

def main():
    with open("{folder}/runs", "a") as runs:
        runs.write(f"{slot} {{__file__}}\\n")
    {work}
    signal.pause()
"""
ASKS = """\
if not Path("{folder}/asked").exists():
        Path("{folder}/asked").touch()
        Path("/run/rap/application").write_text("b\\n")"""
BOX = """\
[Unit]
DefaultDependencies=no
Wants=rap-application.path
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/rap
Restart=always
RestartSec=100ms
TimeoutStopSec=5
"""
FIREWALL = """\
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/sleep infinity
"""
WATCHER = """\
[Unit]
DefaultDependencies=no
Wants=rap-box.service
[Service]
Type=oneshot
ExecStart=/bin/sh {folder}/watch
"""
BOOT = """\
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/lock /run/rap /run/usr /run/usr-work /run/by-partlabel {inside}
mount --bind {folder} {inside}
umount -l /sys/fs/cgroup || true
mount -t cgroup2 none /sys/fs/cgroup
mount -t overlay -o lowerdir=/usr,upperdir=/run/usr,workdir=/run/usr-work overlay /usr
cp -r {inside}/usr/. /usr/
cp {inside}/units/* /run/systemd/system
ln -s {inside}/b.img /run/by-partlabel/root-b
ln -s {inside}/boot-state /run/by-partlabel/boot-state
export container=lxc
exec {systemd} --unit=watcher.service --log-target=console --show-status=0
"""
WATCH = """\
until sh {folder}/until; do sleep 0.1; done
{{ systemctl is-active run-rapslot.mount rap-application.service rap-application.path
systemctl show --property=Result --value rap-application.service
cat /run/rap-application/left; }} > {folder}/states 2>&1
kill -s RTMIN+14 1
"""


class SystemdBox:
    """The files of a box with two slots, whose units systemd runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (
            "usr/bin",
            "usr/libexec/rap",
            "usr/lib/rap/python/rap",
            "units",
            "b/usr/lib/rap/python/rap",
        ):
            (folder / name).mkdir(parents=True)
        for name in ("application", "slot-state"):
            text = (ROOT_TREE / "usr/libexec/rap" / name).read_text()
            (file := folder / "usr/libexec/rap" / name).write_text(self._with_test_paths(text))
            file.chmod(0o755)
        launcher = (ROOT_TREE / "usr/bin/rap").read_text().replace("@PYTHON@", sys.executable)
        (folder / "usr/bin/rap").write_text(launcher)
        (folder / "usr/bin/rap").chmod(0o755)
        (folder / "usr/lib/rap/python/rap/__main__.py").write_text(self._program("a", ASKS))
        for name in ("rap-application.path", "rap-application.service", "run-rapslot.mount"):
            text = self._with_test_paths((ROOT_TREE / "usr/lib/systemd/system" / name).read_text())
            (folder / "units" / name).write_text(text.replace("[Unit]\n", "[Unit]\nDefaultDependencies=no\n"))
        (folder / "units/rap-box.service").write_text(BOX)
        (folder / "units/rap-firewall.service").write_text(FIREWALL)
        (folder / "units/watcher.service").write_text(WATCHER.format(folder=INSIDE))
        (folder / "cmdline").write_text("ro rap.slot=a quiet\n")
        (folder / "boot").write_text(BOOT.format(folder=folder, inside=INSIDE, systemd=SYSTEMD))
        (folder / "watch").write_text(WATCH.format(folder=INSIDE))
        state = bytearray(slots.BOOT_STATE_BYTES)
        for name, slot in (("boot-state", "a"), ("committed", "b")):
            for offset in slots.COPY_OFFSETS:
                state[offset : offset + slots.RECORD_BYTES] = slots.encode(SlotState(1, slot))  # type: ignore[arg-type]
            (folder / name).write_bytes(state)

    def _with_test_paths(self, text: str) -> str:
        """Replace the paths of the partitions and of the kernel's command line by those of the test."""
        replaced = text.replace("/dev/disk/by-partlabel", "/run/by-partlabel")
        return replaced.replace("/proc/cmdline", f"{INSIDE}/cmdline")

    def _program(self, slot: str, work: str) -> str:
        """Return the box program of a slot, which writes down its path and then executes `work`."""
        return PROGRAM.format(folder=INSIDE, slot=slot, work=work.format(folder=INSIDE))

    def run(self, work: str, until: str) -> tuple[list[str], list[str]]:
        """Run until the shell command `until` succeeds; the box program of slot b executes `work`.

        Return the slot and the path of each box program that ran, in order, and the states of the units at the end.
        """
        (self.folder / "b/usr/lib/rap/python/rap/__main__.py").write_text(self._program("b", work))
        (self.folder / "until").write_text(until.format(folder=INSIDE))
        image, tree = self.folder / "b.img", self.folder / "b"
        options = ["-q", "-F", "-t", "ext4", "-O", "^has_journal"]
        subprocess.run(["/usr/sbin/mke2fs", *options, "-d", tree, image, "4m"], check=True)
        command = ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--mount-proc", "--kill-child"]
        done = subprocess.run(
            [*command, "bash", str(self.folder / "boot")],
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        assert (self.folder / "states").exists(), done.stdout + done.stderr
        return [(self.folder / name).read_text().splitlines() for name in ("runs", "states")]  # type: ignore[return-value]


@pytest.fixture
def box(tmp_path: Path) -> SystemdBox:
    if os.geteuid() != 0 or not SYSTEMD.exists() or not shutil.which("unshare"):
        pytest.skip("needs root, systemd and unshare")
    return SystemdBox(tmp_path)


OWN, OTHER = "/usr/lib/rap/python/rap/__main__.py", "/run/rapslot/usr/lib/rap/python/rap/__main__.py"


@pytest.mark.kernel
@pytest.mark.slow("systemd starts in separate namespaces")
def test_programs_run_from_the_other_slot_before_and_after_its_commit(box: SystemdBox) -> None:
    commits = 'Path("{folder}/boot-state").write_bytes(Path("{folder}/committed").read_bytes())'
    over = "grep -q ^b {folder}/runs && ! systemctl is-active -q rap-application.service"
    runs, states = box.run(commits, over)
    assert runs == [f"a {OWN}", f"b {OTHER}"]
    assert states[:4] == ["active", "inactive", "active", "success"]


@pytest.mark.kernel
@pytest.mark.slow("systemd starts in separate namespaces")
def test_a_slot_whose_program_ends_repeatedly_is_left(box: SystemdBox) -> None:
    over = 'test "$(grep -c ^a {folder}/runs)" = 2 && ! systemctl is-active -q rap-application.service'
    runs, states = box.run("raise SystemExit(1)", over)
    assert runs[0] == runs[-1] == f"a {OWN}"
    assert set(runs[1:-1]) == {f"b {OTHER}"} and len(runs) > 8
    assert states == ["inactive", "inactive", "active", "success", "b"]
