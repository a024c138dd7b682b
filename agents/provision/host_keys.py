"""Keeps the SSH server's host keys of a box whose /etc is created anew at each start.

They are generated at the first start, in the state partition, and copied to /etc at each start.
`sshd-keygen@.service` generates a key only if it is missing.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from wire.process.files import write_file

KEPT: Final = Path("/var/lib/rap/ssh")
FOLDER: Final = "etc/ssh"
KINDS: Final = ("ecdsa", "rsa")
"""The kinds that sshd's configuration permits. Not all FIPS 140-3 modules provide Ed25519."""
_PRIVATE, _PUBLIC = 0o600, 0o644


def install_host_keys(kept: Path, folder: Path) -> None:
    """Copy the host keys in `kept` to `folder`, and generate those that are missing. Raises: OSError.

    A system without an SSH server gets none.
    """
    if (program := shutil.which("ssh-keygen")) is None or not folder.is_dir():
        return
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    for kind in KINDS:
        name = f"ssh_host_{kind}_key"
        if not (kept / name).exists():
            _generate(program, kind, kept / name)
        if (kept / name).exists():
            write_file(folder / name, (kept / name).read_bytes(), _PRIVATE)
            write_file(folder / f"{name}.pub", (kept / f"{name}.pub").read_bytes(), _PUBLIC)


def _generate(program: str, kind: str, key: Path) -> None:
    """Generate a key, durably; the private key is written last, so that it exists only with the public one."""
    new = key.with_name("new")
    public = new.with_name("new.pub")
    new.unlink(missing_ok=True)
    command = [program, "-q", "-t", kind, "-N", "", "-C", "", "-f", str(new)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return  # sshd-keygen@.service generates one that lasts until the next start
    write_file(key.with_name(f"{key.name}.pub"), public.read_bytes(), _PUBLIC)
    write_file(key, new.read_bytes(), _PRIVATE)
    new.unlink()
    public.unlink()
