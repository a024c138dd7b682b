"""The box's httpd with its own configuration, changed only in its folders, accounts and addresses."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface
from pathlib import Path

from agents.box.page.certificate import FILE
from agents.provision.page import virtual_host
from imaging.check.apache.httpd import MODULES
from imaging.rpm.contents import RECIPE
from rap.__main__ import main
from tests.support.eventually import poll_until
from tests.support.namespaces import Namespace

PAGE_SOCKET = Path("/run/rap-page/socket")
HTTPD = shutil.which("httpd") or shutil.which("apache2", path="/usr/sbin")
USER = "www-data" if Path("/usr/sbin/apache2").exists() else "apache"
CAN_RUN = HTTPD is not None and os.geteuid() == 0
REASON = "needs root and Apache httpd: make setup-image"


def make_pki(folder: Path) -> Path:
    """Make the certificate of a box."""
    assert main(["pki", "init", str(folder)]) == 0
    assert main(["pki", "issue", str(folder), "RAP-0001", "--for", "box"]) == 0
    return folder


def configure(
    folder: Path,
    pki: Path,
    ports: dict[int, IPv4Interface],
    page_socket: Path = PAGE_SOCKET,
    name: str | None = None,
    tcp_port: int = 0,
) -> tuple[Path, dict[int, int]]:
    """Write the configuration into the empty folder `folder`; return it, and the TCP port of each instrument port.

    `ports` has the box's address on each instrument port; `name` is that of the page in browsers. Without
    `tcp_port`, free ports are used.
    """
    for part in ("conf", "run"):
        (folder / part).mkdir()
    shutil.copytree(pki, folder / "pki")
    (folder / "modules").symlink_to(next(path for path in MODULES if Path(path).is_dir()))
    text = (RECIPE / "root/etc/httpd/conf/rap.conf").read_text()
    here = {
        'ServerRoot "/etc/httpd"': f'ServerRoot "{folder}"',
        "/var/lib/rap/identity/box": f"{folder}/pki/rap-0001",
        "/run/httpd": f"{folder}/run",
        str(PAGE_SOCKET): str(page_socket),
        str(PAGE_SOCKET.with_name(FILE)): str(page_socket.with_name(FILE)),
        "RequestReadTimeout header=10-20": "RequestReadTimeout header=2-4",  # so that tests wait less
        "User apache": f"User {USER}",
        "Group apache": f"Group {USER}",
    }
    for there, place in here.items():
        assert there in text
        text = text.replace(there, place)
    (folder / "conf/rap.conf").write_text(text)
    tcp_ports = {number: tcp_port or _free_port(str(address.ip)) for number, address in ports.items()}
    hosts = [virtual_host(number, address, name, tcp_ports[number]) for number, address in ports.items()]
    (folder / "conf/rap-listen.conf").write_text("".join(hosts))
    return folder / "conf/rap.conf", tcp_ports


def _free_port(address: str) -> int:
    with socket.socket() as found:
        found.bind((address, 0))
        return int(found.getsockname()[1])


@contextmanager
def running(conf: Path, place: tuple[str, int], network: Namespace | None = None) -> Iterator[int]:
    """Run httpd with this configuration during the context, from when it listens at `place`; its process id.

    `network` is the namespace in which it runs, if it is another one.
    """
    assert HTTPD
    command = (HTTPD, "-D", "FOREGROUND", "-f", str(conf))
    words = network.words(*command) if network else command
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:

        def listens() -> bool:
            assert server.poll() is None, server.communicate()[1]
            stream = socket.AF_INET, socket.SOCK_STREAM
            with network.socket(*stream) if network else socket.socket(*stream) as probe:
                return probe.connect_ex(place) == 0

        try:
            poll_until(listens)
            yield server.pid
        finally:
            server.terminate()


def client_tls(newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """Return the context of a client that offers everything up to a version of TLS, and verifies nothing."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = min(newest, ssl.TLSVersion.TLSv1)
    context.maximum_version = newest
    return context
