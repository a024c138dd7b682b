"""rsyslogd in the role of a SIEM."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.eventually import poll_until
from wire.tls.context import Identity

RSYSLOGD = shutil.which("rsyslogd") or shutil.which("rsyslogd", path="/usr/sbin")
GNUTLS = any(Path("/usr").glob("lib*/**/rsyslog/lmnsd_gtls.so"))
needs_rsyslog = pytest.mark.skipif(
    not RSYSLOGD or not GNUTLS, reason="needs rsyslog with GnuTLS: make setup-datacenter"
)


def free_port() -> int:
    """Return a TCP port that is free at this time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def rsyslog(folder: Path, port: int, identity: Identity) -> Iterator[None]:
    """Run rsyslogd with TLS within the block; it appends received messages to the file `received` in `folder`."""
    (folder / "rsyslog.conf").write_text(f"""
global(workDirectory="{folder}" defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{identity.authorities}"
  defaultNetstreamDriverCertFile="{identity.certificate}" defaultNetstreamDriverKeyFile="{identity.key}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="whole" type="string" string="%structured-data% %msg%\\n")
action(type="omfile" file="{folder}/received" template="whole")
""")
    assert RSYSLOGD
    program = subprocess.Popen([RSYSLOGD, "-n", "-f", folder / "rsyslog.conf", "-i", folder / "pid"])
    try:
        poll_until(lambda: is_open(port))
        yield
    finally:
        program.terminate()
        program.wait()


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
