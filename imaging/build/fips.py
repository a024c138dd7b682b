"""FIPS mode (`fips=1`): checks that an image contains what dracut's module fips needs to start the kernel.

With `fips=1`, the module's fips.sh compares the kernel with /boot/.vmlinuz-VERSION.hmac by sha512hmac. Without the
kernel argument `boot=`, it reads /boot of the root file system. Source: modules.d/01fips/fips.sh of dracut 057 and
059.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Final

from imaging.build.types import BuildFailed, BuildPlan

DRACUT_OPTIONS: Final = ("--add", "fips")
"""The options with which the installer's `fips-mode-setup` configures dracut."""
_KEY: Final = b"FIPS-FTW-RHT2009"
"""The key of sha512hmac, which detects damage and is not secret (libkcapi, apps/kcapi-hasher.c)."""
_SCRIPT, _PROGRAM = "sbin/fips.sh", "bin/sha512hmac"


def is_required(plan: BuildPlan) -> bool:
    """Return whether the kernel is started in FIPS mode."""
    return "fips=1" in plan.kernel_arguments.split()


def check(boot: Path, version: str, listing: str) -> None:
    """Check that the kernel of this version in the folder `boot` starts with `fips=1`.

    `listing` is lsinitrd's output for its initramfs.

    Raises: BuildFailed.
    """
    names = [line.partition(" -> ")[0].rpartition(" ")[2] for line in listing.splitlines()]
    if not any(name.endswith(_SCRIPT) for name in names):
        raise _wrong(version, "dracut has no module fips; use a dracut that has one")
    if not any(name.endswith(_PROGRAM) for name in names):
        raise _wrong(version, "its initramfs has no sha512hmac; add libkcapi-hmaccalc to %packages")
    checksum = boot / f".vmlinuz-{version}.hmac"
    if not checksum.exists():
        raise _wrong(
            version,
            f"its package has no /usr/lib/modules/{version}/.vmlinuz.hmac; use a kernel with that file",
        )
    expected, _, named = checksum.read_text("ascii", "replace").partition(" ")
    kernel = boot / f"vmlinuz-{version}"
    if Path(named.strip(" *\n")).name != kernel.name:
        raise _wrong(version, f"{checksum.name} is for the file {named.strip()}; install its package again")
    if not hmac.compare_digest(expected, hmac.new(_KEY, kernel.read_bytes(), "sha512").hexdigest()):
        raise _wrong(version, f"it differs from the checksum in {checksum.name}; install its package again")


def _wrong(version: str, why: str) -> BuildFailed:
    """Return the error for a kernel that would not start; `why` ends with a remedy, and another one is added."""
    return BuildFailed(f"fips=1: kernel {version} would not start in FIPS mode: {why}, or remove fips=1")
