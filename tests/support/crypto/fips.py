"""Programs in FIPS mode: OpenSSL's real provider (`make setup-fips`), and the distribution's package cryptography."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.paths import ROOT

PROVIDER: Final = Path("/usr/local/lib/openssl-fips")
CONFIGURATION: Final = PROVIDER / "openssl.cnf"
DISTRIBUTION: Final = Path("/usr/lib/python3/dist-packages")
_BACKEND: Final = f"_cffi_backend.{sys.implementation.cache_tag}-x86_64-linux-gnu.so"
CAN_RUN: Final = CONFIGURATION.exists() and (DISTRIBUTION / _BACKEND).exists()
REASON: Final = (
    "needs OpenSSL's FIPS provider and Debian's python3-cryptography: make setup-fips, make setup-kernel"
)
KERNEL: Final = """\
mount -t tmpfs none /proc/sys
mkdir /proc/sys/crypto
echo "$1" > /proc/sys/crypto/fips_enabled
shift
exec "$@"
"""
"""Shell script that runs a command with an emulated kernel setting of FIPS mode ("1" or "0") as the only one in
/proc/sys.
"""


def distributions_cryptography(folder: Path) -> Path:
    """Create a folder for PYTHONPATH with links to the distribution's package, which uses the system's OpenSSL."""
    for name in ("cryptography", _BACKEND):
        (folder / name).symlink_to(DISTRIBUTION / name)
    return folder


def in_fips_mode(packages: Path | None, configuration: Path = CONFIGURATION, kernel: str = "1") -> list[str]:
    """Return the prefix of a command that runs in FIPS mode; without `packages`, it uses cryptography's wheel."""
    path = ":".join(str(folder) for folder in (packages, ROOT) if folder)
    environment = ["env", f"OPENSSL_CONF={configuration}", f"PYTHONPATH={path}"]
    return [*environment, "unshare", "--mount", "--propagation", "private", "sh", "-ec", KERNEL, "sh", kernel]


def run(
    program: Sequence[str | Path], configuration: Path = CONFIGURATION
) -> subprocess.CompletedProcess[str]:
    """Run a program of the system with OpenSSL's FIPS provider."""
    command = ["env", f"OPENSSL_CONF={configuration}", *map(str, program)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def damaged(folder: Path, defect: str) -> Path:
    """Return a configuration of a provider that is "missing", "damaged" or "not the default"."""
    text = CONFIGURATION.read_text()
    if defect == "not the default":
        text = text.replace("default_properties = fips=yes\n", "").replace(
            "[algorithms]\n", "[algorithms]\n[default_sect]\nactivate = 1\n"
        )
        text = text.replace("base = base_sect\n", "base = base_sect\ndefault = default_sect\n")
    else:
        text = text.replace("config_diagnostics = 1\n", "").replace(
            f"module = {PROVIDER}/fips.so", f"module = {folder}/fips.so"
        )
    if defect == "damaged":
        code = bytearray((PROVIDER / "fips.so").read_bytes())
        offset = code.index(b"OpenSSL FIPS Provider\0")
        code[offset] ^= 1
        (folder / "fips.so").write_bytes(code)
    (folder / "openssl.cnf").write_text(text)
    return folder / "openssl.cnf"
