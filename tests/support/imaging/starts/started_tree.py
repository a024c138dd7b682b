"""A box's image without its kernel: systemd starts the image's file tree in namespaces, at the speed of this machine.

What depends on the image's kernel or hardware is missing or replaced: FIPS mode (the box program reads a file
instead), kernel arguments and sysctl settings, auditd, file systems, network cards, and NetworkManager (addresses are
assigned here). Units start without the settings that mount /proc or /sys, which a namespace refuses.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from imaging.flash import identity
from imaging.kickstart.site import for_box, load_site
from settings import identity_archive
from tests.support.eventually import poll_until
from tests.support.imaging.starts.first_report import CABLES, COLLECTOR, SERIAL, UPLINK
from tests.support.imaging.starts.guest_shell import ScriptResult

_ADDRESSES: Final = {"uplink": (UPLINK, "192.0.2.1"), "port1": (COLLECTOR, "10.77.1.10")}
"""The box's address on each cable, and the address of the other end; the networks are /24."""
_NOT_HERE: Final = """\
[Service]
PrivateDevices=no
PrivateNetwork=no
ProtectControlGroups=no
ProtectKernelLogs=no
ProtectKernelModules=no
ProtectKernelTunables=no
"""
_TPM: Final = """\
[Service]
Environment=TPM2OPENSSL_TCTI=swtpm:path=/srv/tpm/s
"""
_BOOT: Final = """\
set -e
tree=$1 inputs=$2 tpm=$3 root=/mnt/root
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work $root
mount -t overlay -o lowerdir="$tree",upperdir=/mnt/upper,workdir=/mnt/work overlay $root
ip link set lo up
for name in ipv4.ip_forward ipv4.conf.all.forwarding ipv4.conf.default.forwarding ipv6.conf.all.forwarding; do
    sysctl -qw net.$name=0
done
sysctl -qw net.ipv4.ip_nonlocal_bind=1
mount -t proc proc $root/proc
mount -t sysfs sysfs $root/sys
umount -l /sys/fs/cgroup || :
mount -t cgroup2 none $root/sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs $root/dev
mkdir -p $root/dev/pts $root/dev/shm $root/dev/net $root/dev/disk/by-partlabel
mount -t devpts devpts $root/dev/pts
mount -t tmpfs tmpfs $root/dev/shm
for name in null zero full random urandom tty net/tun; do
    touch $root/dev/$name
    mount --bind /dev/$name $root/dev/$name
done
mount -t tmpfs -o mode=755 tmpfs $root/run
mount -t tmpfs -o mode=1777 tmpfs $root/tmp
cp "$inputs/identity" $root/dev/disk/by-partlabel/rap-identity
mkdir -p $root/etc/systemd/system/service.d $root/etc/systemd/system/rap-box.service.d $root/srv/tpm
cp "$inputs/service.conf" $root/etc/systemd/system/service.d/not-here.conf
if [ "$tpm" ]; then
    cp "$inputs/tpm.conf" $root/etc/systemd/system/rap-box.service.d/tpm.conf
    mount --bind "$tpm" $root/srv/tpm
fi
flag=$root/usr/lib/rap/python/hal/linux/crypto.py
sed -i s#/proc/sys/crypto/fips_enabled#/etc/fips-enabled# $flag
rm -f $root/usr/lib/rap/python/hal/linux/__pycache__/crypto.*
echo 1 > $root/etc/fips-enabled
export container=lxc
exec chroot $root /usr/lib/systemd/systemd --log-target=null --show-status=0 fstab=no
"""
_NAMESPACES: Final = ("--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--kill-child")


class TreeShell:
    """A root shell in a started tree."""

    def __init__(self, pid: int) -> None:
        """`pid` is that of the tree's systemd, seen from this process."""
        self._enter = ["nsenter", "-t", str(pid), *["-m", "-p", "-n", "-u", "-i", "-r", "-w"]]

    def run(self, script: str, stdin: bytes = b"") -> ScriptResult:
        """Run a script of sh(1) with standard input `stdin`."""
        done = subprocess.run(
            [*self._enter, "/bin/sh", "-c", script],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            check=False,
        )
        return ScriptResult(done.returncode, done.stdout.decode("utf-8", "replace"))

    def write(self, path: str, content: bytes) -> None:
        """Write a file in the tree."""
        done = self.run(f"cat > {path}", content)
        assert done.status == 0, done.output


@contextmanager
def started_tree(tree: Path, folder: Path, site: Path, tpm: Path | None = None) -> Iterator[TreeShell]:
    """Start the box in `tree` with an identity that the CAs in `folder` issue, connected to this thread's network.

    The tree is not changed. `site` is the box's site file; `tpm` is the socket of an emulated TPM.
    """
    (inputs := folder / "inputs").mkdir(exist_ok=True)
    request = identity.make(SERIAL, for_box(load_site(site)).encode())
    (inputs / "identity").write_bytes(identity_archive.pack(identity.issue(request, folder)))
    (inputs / "service.conf").write_text(_NOT_HERE)
    (inputs / "tpm.conf").write_text(_TPM)
    if tpm:
        for part in (tpm, tpm.with_name(tpm.name + ".ctrl")):
            part.chmod(0o666)  # the user of the box program
    command = ["unshare", *_NAMESPACES, "sh", "-c", _BOOT, "sh", tree, inputs, tpm.parent if tpm else ""]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            poll_until(lambda: bool(children.read_text().split()))
            pid = int(children.read_text().split()[0])
            _plug_in(pid)
            yield TreeShell(pid)
        finally:
            process.send_signal(signal.SIGKILL)


def _plug_in(pid: int) -> None:
    """Connect the box's ports to veth pairs, whose other ends are in this thread's network namespace."""
    _run("ip link set lo up")
    for number in range(1, 6):
        name = CABLES.get(number, f"unused{number}")
        _run(f"ip link add {name} type veth peer name enp{number}s0 netns {pid}")
        if name in _ADDRESSES:
            own, other = _ADDRESSES[name]
            _run(f"ip address add {other}/24 dev {name}")
            _run(f"ip link set {name} up")
            _run(f"nsenter -t {pid} -n ip address add {own}/24 dev enp{number}s0")
            _run(f"nsenter -t {pid} -n ip link set enp{number}s0 up")


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True)
