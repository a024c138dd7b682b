"""The smallest system from which the builder makes an image: real programs, with a placeholder for the kernel."""

from __future__ import annotations

import hmac
import shutil
from pathlib import Path
from typing import Final

import msgspec
import pytest

from imaging.build.build import build
from imaging.build.types import BuildRequest
from imaging.mock_repo.rpms import MockPackages, Stub, contents, make_repository
from imaging.signing import make_key
from tests.support.paths import ROOT
from tests.support.runner.once import once

CACHE: Final = ROOT / "build/mock-repo/debs"
DEBS: Final = [
    "base-passwd",
    "bash",
    "coreutils",
    "findutils",
    "grep",
    "grub-pc-bin",
    "libc-bin",
    "login",
    "passwd",
    "sed",
]
EFI_PROGRAMS: Final = [f"BOOT{letter}.EFI" for letter in "HCGAFBED"]
KERNEL: Final = "no kernel\n"
HMAC: Final = hmac.new(b"FIPS-FTW-RHT2009", KERNEL.encode(), "sha512").hexdigest()
"""The digest of `openssl dgst -sha512 -hmac FIPS-FTW-RHT2009`, which kernel packages contain."""
NO_COMPRESSION: Final = "--no-compress"
INITRAMFS: Final = "usr/sbin/fips.sh usr/bin/sha512hmac"
STUBS: Final = {
    "kernel": Stub(
        files={
            "usr/lib/modules/1.0/vmlinuz": KERNEL,
            "usr/lib/modules/1.0/.vmlinuz.hmac": f"{HMAC}  /boot/vmlinuz-1.0\n",
        }
    ),
    "dracut": Stub(
        files={
            "usr/bin/dracut": f"#!/bin/sh\nfor last; do image=$version version=$last; done\n"
            f'case "$*" in *" --add fips "*) echo {INITRAMFS} > "$image";; *) : > "$image";; esac\n'
            f'case "$*" in *" {NO_COMPRESSION} "*) ;; *) echo compressed > "$image";; esac\n',
            "usr/bin/lsinitrd": "#!/bin/sh\nfor file in $(cat $1); do echo -rw-r--r-- root $file; done\n",
        }
    ),
    "tzdata": Stub(files={"usr/share/zoneinfo/Etc/UTC": "TZif\n"}),
    "shim-x64": Stub(
        files={f"boot/efi/EFI/BOOT/{name}": "no program\n" for name in EFI_PROGRAMS},
        provides=["grub2-efi-x64"],
    ),
}
KICKSTART: Final = """\
#version=RHEL9
text
lang en_US.UTF-8
timezone Etc/UTC --utc
clearpart --all --initlabel --disklabel=gpt
part biosboot --fstype=biosboot --size=1
part /boot/efi --fstype=efi --size=34 --label=ESP
part /boot --fstype=ext4 --size=16
part / --fstype=ext4 --size=160 --label=root-a
part /var --fstype=ext4 --size=16 --grow --fsoptions=nodev,nosuid
bootloader --location=mbr --timeout=1 --append="fips=1"
network --device=enp1s0 --bootproto=dhcp --hostname=box
rootpw --lock
user --name=someone --lock
%packages --nocore
base-passwd
bash
coreutils
findutils
grep
libc-bin
login
passwd
sed
tzdata
dracut
%end
%pre
exit 1
%end
%post --erroronfail --log=/var/post.log
echo "$(cat /proc/sys/kernel/hostname) $(cat /proc/net/dev | wc -l)" > /etc/built-on
date > /var/log/today
setpriv --version > /dev/null 2>&1 || echo said
%end
"""


def need_tools() -> None:
    """Skip the test if a program for building images is missing."""
    missing = [
        name
        for name in ("dnf", "rpmbuild", "createrepo_c", "sfdisk", "mcopy", "dpkg-deb")
        if not shutil.which(name)
    ]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: make setup-image")


def small_contents() -> MockPackages:
    everything = contents()
    stubs = {"filesystem": everything.stubs["filesystem"], **STUBS}
    return msgspec.structs.replace(everything, debs=DEBS, stubs=stubs, groups={}, environments={})


def small_repository(folder: Path) -> Path:
    make_repository(folder, CACHE, small_contents())
    return folder


def small_image(factory: pytest.TempPathFactory) -> Path:
    """Return the signed image of this system, beside `key.pem` and `key.pub`; it is built once for all workers."""
    need_tools()
    return once(factory, "small-image", _build) / "out/box.raw"


def _build(folder: Path) -> None:
    folder.mkdir()
    (folder / "box.ks").write_text(KICKSTART)
    make_key(folder / "key.pem", folder / "key.pub")
    repository = small_repository(folder / "repository")
    request = BuildRequest(
        *(folder / "box.ks", "RHEL9", (str(repository),), folder / "out", folder / "work"),
        key=folder / "key.pem",
    )
    image = build(request, lambda _name, _kept: None, lambda _line: None).image
    for name in ("key.pem", "key.pub"):
        (folder / name).rename(image.with_name(name))
