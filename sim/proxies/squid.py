"""squid, the real HTTP proxy of the kernel world: its configuration, and TLS inspection (its "SSL bump").

An inspecting squid presents one certificate of another CA to all clients. It terminates a client's TLS before it
connects to the server, so that a client which does not trust the certificate sends nothing. squid must be built with
OpenSSL for that: Debian's package `squid` is not, its package `squid-openssl` is.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from wire.tls.context import Identity

SQUID_USER: Final = "proxy"
CANNOT_INSPECT: Final = (
    "this squid cannot inspect TLS, because it is built without OpenSSL; install squid-openssl"
)
_PORT_OPTIONS: Final = " ssl-bump generate-host-certificates=off tls-cert={certificate}\nssl_bump bump all"
_CONFIGURATION: Final = """\
http_port {listens}
visible_hostname {name}
pid_filename {folder}/squid.pid
cache_log {folder}/cache.log
access_log stdio:{folder}/access.log
coredump_dir {folder}
cache deny all
shutdown_lifetime 0 seconds
{rules}
"""


def squid_command(folder: Path, listens: str, name: str, rules: str) -> list[str]:
    """Write squid.conf into `folder`, with the arguments of `http_port` and the access rules; return the command."""
    config = folder / "squid.conf"
    config.write_text(_CONFIGURATION.format(listens=listens, name=name, folder=folder, rules=rules))
    (folder / "squid.pid").unlink(missing_ok=True)
    return ["squid", "-N", "-f", str(config), "-n", name]


def write_inspection(folder: Path, inspector: Identity) -> str:
    """Write the certificate and its key into `folder`; return the arguments after `http_port PORT` in squid.conf.

    Raises: RuntimeError if squid cannot inspect TLS.
    """
    if not can_inspect():
        raise RuntimeError(CANNOT_INSPECT)
    pem = folder / "inspector.pem"
    pem.touch(mode=0o600)
    pem.write_bytes(inspector.certificate.read_bytes() + inspector.key.read_bytes())
    shutil.chown(pem, SQUID_USER)
    return _PORT_OPTIONS.format(certificate=pem)


def inspecting_parent(folder: Path, inspector: Identity, port: int) -> list[str]:
    """Write the configuration of an inspecting squid on loopback, for proxies that cannot inspect TLS.

    Returns the command that runs it.
    """
    folder.mkdir(exist_ok=True)
    shutil.chown(folder, SQUID_USER)
    listens = f"127.0.0.1:{port}{write_inspection(folder, inspector)}"
    return squid_command(folder, listens, "inspection", "http_access allow all")


def can_inspect() -> bool:
    """Return whether this machine's squid can inspect TLS: whether it is built with OpenSSL."""
    version = subprocess.run(["squid", "-v"], check=True, capture_output=True, text=True)
    return "--with-openssl" in version.stdout
