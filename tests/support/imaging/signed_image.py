"""The signed image of a box, built once for all tests that flash it, and kept until one of its sources changes."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from imaging import signing
from tests.support.imaging.services import KICKSTART, SESSIONS, add_services
from tests.support.imaging.starts.first_report import build_image
from tests.support.paths import ROOT

KEPT: Final = ROOT / "build/signed-image"
_SOURCES: Final = (
    "settings",
    "hal",
    "wire",
    "trust",
    "agents",
    "netfw",
    "imaging",
    "kickstart",
    "firmware-image",
    "rap",
)
_ARGUMENTS: Final = "systemd.journald.forward_to_console=1"
AUDIT_LINE: Final = (
    "type=DAEMON_START msg=audit(1700000000.123:1): op=start ver=3.0.9 auid=4294967295 res=success"
)
_AUDITD: Final = f"""
%post --erroronfail
set -e
mkdir -p /etc/systemd/system/auditd.service.d
cat > /etc/systemd/system/auditd.service.d/line.conf <<'END'
[Unit]
RequiresMountsFor=/var/log/audit
[Service]
UMask=0077
ExecStart=/bin/sh -c 'echo "{AUDIT_LINE}" >> /var/log/audit/audit.log'
END
%end
"""
"""The stub of auditd writes a line at each start, in a file that only root may read."""
_POST: Final = _AUDITD + KICKSTART


class SignedImage(NamedTuple):
    """An image and the public key that verifies it."""

    image: Path
    key: Path


def signed_image() -> SignedImage:
    """Return the image with its accompanying files."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = KEPT / _state_of_sources()
        if not folder.exists():
            for old in KEPT.glob("[0-9a-f]*/"):
                shutil.rmtree(old)
            _build(folder)
    return SignedImage(folder / "box.raw", folder / "key.pub")


def _build(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=KEPT, prefix="part-") as place:
        work = Path(place)
        private, public = work / "key.pem", work / "key.pub"
        signing.make_key(private, public)
        (packages := work / "rpm").mkdir()
        add_services(packages)
        image = build_image(work, _ARGUMENTS, _POST, key=private)
        public.rename(image.with_name("key.pub"))
        image.parent.rename(folder)


def _state_of_sources() -> str:
    """Return a hash of all files that an image is made from."""
    digest = hashlib.sha256()
    for file in _files():
        digest.update(
            f"{_ARGUMENTS} {_POST} {SESSIONS} {file.relative_to(ROOT)} {file.stat().st_mode}\0".encode()
            + file.read_bytes()
        )
    return digest.hexdigest()[:16]


def _files() -> Iterator[Path]:
    for folder in _SOURCES:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file
