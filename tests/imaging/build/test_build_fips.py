"""A kernel that would not start in FIPS mode stops the build; the error states the reason and the remedy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from imaging.build.fips import check
from imaging.build.types import BuildFailed

LISTING = """\
Image: /boot/initramfs-1.0.img: 10M
dracut modules:
fips
drwxr-xr-x   3 root     root            0 Nov 14  2023 usr
-rwxr-xr-x   1 root     root         6125 Nov 14  2023 usr/sbin/fips.sh
lrwxrwxrwx   1 root     root           13 Nov 14  2023 usr/bin/sha512hmac -> ../libexec/libkcapi/sha512hmac
"""


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    """A folder with a kernel and its checksum, computed as for a kernel package."""
    (kernel := tmp_path / "vmlinuz-1.0").write_bytes(b"kernel" * 1000)
    command = ["openssl", "dgst", "-sha512", "-hmac", "FIPS-FTW-RHT2009", "-r", str(kernel)]
    checksum = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]
    (tmp_path / ".vmlinuz-1.0.hmac").write_text(f"{checksum}  /boot/vmlinuz-1.0\n")
    return tmp_path


def test_a_kernel_with_its_checksum_is_accepted(boot: Path) -> None:
    check(boot, "1.0", LISTING)


def test_a_checksum_file_may_name_the_kernel_without_its_folder(boot: Path) -> None:
    file = boot / ".vmlinuz-1.0.hmac"
    file.write_text(file.read_text().replace("/boot/", "*"))
    check(boot, "1.0", LISTING)


@pytest.mark.parametrize(
    ("listing", "problem"),
    [
        ("", "dracut has no module fips"),
        (LISTING.replace("fips.sh", "other.sh"), "dracut has no module fips"),
        (
            LISTING.replace("bin/sha512hmac ->", "bin/other ->"),
            "no sha512hmac; add libkcapi-hmaccalc to %packages",
        ),
    ],
)
def test_an_initramfs_without_the_check_is_refused(boot: Path, listing: str, problem: str) -> None:
    with pytest.raises(BuildFailed, match=f"^fips=1: kernel 1.0 would not start.*{problem}"):
        check(boot, "1.0", listing)


def test_a_kernel_without_a_checksum_is_refused(boot: Path) -> None:
    (boot / ".vmlinuz-1.0.hmac").unlink()
    with pytest.raises(
        BuildFailed, match=r"no /usr/lib/modules/1\.0/\.vmlinuz\.hmac; use a kernel with that file"
    ):
        check(boot, "1.0", LISTING)


def test_a_kernel_that_differs_from_its_checksum_is_refused(boot: Path) -> None:
    with (boot / "vmlinuz-1.0").open("ab") as file:
        file.write(b"changed")
    with pytest.raises(BuildFailed, match="differs from the checksum"):
        check(boot, "1.0", LISTING)


def test_the_checksum_of_another_kernel_is_refused(boot: Path) -> None:
    file = boot / ".vmlinuz-1.0.hmac"
    file.write_text(file.read_text().replace("vmlinuz-1.0", "vmlinuz-2.0"))
    with pytest.raises(BuildFailed, match=r"is for the file /boot/vmlinuz-2\.0"):
        check(boot, "1.0", LISTING)
