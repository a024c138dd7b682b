"""The box's httpd with its own configuration, in which only paths, accounts, addresses and a timeout are changed."""

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

from agents.box.page.certificate import FILE as PAGE_CERTIFICATE
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
    """Create the PKI with the certificate of a box in a folder; return the folder."""
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
    """Write the configuration into the empty `folder`; return its path, and the TCP port of each instrument port.

    `ports` maps each instrument port to the box's address; `name` is the page's host name in browsers. Without
    `tcp_port`, free TCP ports are used.
    """
    for part in ("conf", "run"):
        (folder / part).mkdir()
    shutil.copytree(pki, folder / "pki")
    (folder / "modules").symlink_to(next(path for path in MODULES if Path(path).is_dir()))
    text = (RECIPE / "root/etc/httpd/conf/rap.conf").read_text()
    replacements = {
        'ServerRoot "/etc/httpd"': f'ServerRoot "{folder}"',
        "/var/lib/rap/identity/box": f"{folder}/pki/rap-0001",
        "/run/httpd": f"{folder}/run",
        str(PAGE_SOCKET): str(page_socket),
        str(PAGE_SOCKET.with_name(PAGE_CERTIFICATE)): str(page_socket.with_name(PAGE_CERTIFICATE)),
        "RequestReadTimeout header=10-20": "RequestReadTimeout header=2-4",  # so that tests wait less
        "User apache": f"User {USER}",
        "Group apache": f"Group {USER}",
    }
    for original, replacement in replacements.items():
        assert original in text
        text = text.replace(original, replacement)
    (folder / "conf/rap.conf").write_text(text)
    tcp_ports = {number: tcp_port or _free_port(str(address.ip)) for number, address in ports.items()}
    hosts = [virtual_host(number, address, name, tcp_ports[number]) for number, address in ports.items()]
    (folder / "conf/rap-listen.conf").write_text("".join(hosts))
    return folder / "conf/rap.conf", tcp_ports


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(conf: Path, address: tuple[str, int], network: Namespace | None = None) -> Iterator[int]:
    """Run httpd with this configuration within the context; yield its process id when it listens at `address`.

    `network` is the namespace in which it runs, if it is not that of this process.
    """
    assert HTTPD
    command = (HTTPD, "-D", "FOREGROUND", "-f", str(conf))
    program = network.wrap(*command) if network else command
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:

        def listens() -> bool:
            assert server.poll() is None, server.communicate()[1]
            stream = socket.AF_INET, socket.SOCK_STREAM
            with network.socket(*stream) if network else socket.socket(*stream) as probe:
                return probe.connect_ex(address) == 0

        try:
            poll_until(listens)
            yield server.pid
        finally:
            server.terminate()


def client_tls(newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """Return a client context that offers all cipher suites, and versions up to `newest`, and verifies nothing."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = min(newest, ssl.TLSVersion.TLSv1)
    context.maximum_version = newest
    return context
