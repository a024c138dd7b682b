"""A TPM 2.0 in software (swtpm) on a socket, and OpenSSL's provider that uses it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.eventually import poll_until

PROVIDERS: Final = [
    *Path("/usr/lib").glob("*/ossl-modules/tpm2.so"),
    *Path("/usr/lib64/ossl-modules").glob("tpm2.so"),
]
HAS_TPM: Final = shutil.which("swtpm") is not None and bool(PROVIDERS)
REASON: Final = "needs swtpm and OpenSSL's provider tpm2: make setup-image"


@contextmanager
def software_tpm(folder: Path) -> Iterator[None]:
    """Run a TPM with its state in `folder` within the context; this process and its children use it."""
    state = folder / "tpm"
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}"]
    server = ["--server", f"type=unixio,path={state}", "--ctrl", f"type=unixio,path={state}.ctrl"]
    flags = ["--flags", "not-need-init,startup-clear"]
    program = subprocess.Popen([*command, *server, *flags], stderr=subprocess.DEVNULL)
    before = os.environ.get("TPM2OPENSSL_TCTI")
    os.environ["TPM2OPENSSL_TCTI"] = f"swtpm:path={state}"
    try:
        poll_until(lambda: _accepts(state))
        yield
    finally:
        program.kill()
        program.wait()
        if before is None:
            del os.environ["TPM2OPENSSL_TCTI"]
        else:
            os.environ["TPM2OPENSSL_TCTI"] = before


def _accepts(state: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(state))
        except OSError:
            return False
        return True
