"""The interface of a proxy kind in a lab: a simulated proxy, and a real program for the kernel world.

The module of a kind is `sim.proxies.<name>`, with the name that the kind has in `settings.types`; it contains `KIND`.
"""

from __future__ import annotations

import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Final, cast, get_args

from settings.types import Proxy, ProxyKind
from sim.proxies.relay import Behavior, ProxyTunnel
from wire.tls.context import Identity

USER: Final = "rap-box"
PASSWORD: Final = "clinic-proxy"  # noqa: S105 - of a proxy that exists as long as the lab
CREDENTIALS: Final = (USER, PASSWORD)


@dataclass(frozen=True, slots=True)
class ProgramSettings:
    """The current settings of a real proxy, from which its kind writes the program's configuration."""

    auth: str
    folder: Path
    """A folder for the configuration, passwords and logs."""
    interface: str
    """The network interface on which it listens, and from which it connects."""
    refuses: bool = False
    """Whether it rejects all credentials."""
    inspector: Identity | None = None
    """The certificate with which it terminates its clients' TLS; None: it relays TLS unchanged."""
    idle_seconds_max: int | None = None
    """It closes tunnels that were idle for this long; None for no limit."""

    @property
    def password(self) -> str:
        """The password to be accepted: one that no client has while the proxy `refuses`."""
        return "no one" if self.refuses else PASSWORD


class LabProxyKind(ABC):
    """A kind of proxy; docs/reference/lab-file.md contains its docstring. `auth` is always one of its `auths`."""

    name: ClassVar[ProxyKind]
    port: ClassVar[int]
    """The TCP port on which its proxies listen."""
    auths: ClassVar[tuple[str, ...]]
    """The authentication methods: the values of `auth` in a lab file, of which the first is "none"."""
    packages: ClassVar[Mapping[str, str]]
    """The programs of the real proxy, with the Debian packages that contain them."""
    reload_signal: ClassVar[signal.Signals | None] = None
    """The signal that makes the real program read /etc/hosts again; None if it must be restarted."""

    def client_settings(self, host: str, auth: str) -> Proxy:
        """Return the settings of a client of a proxy on `host`."""
        user, password = ("", "") if auth == "none" else CREDENTIALS
        return Proxy(self.name, host, self.port, user, password)

    @abstractmethod
    def accept(self, behavior: Behavior, auth: str, folder: Path) -> ProxyTunnel:
        """Return the simulated proxy's side of a new connection; `folder` is for files that it needs."""

    def prepare_program(self, folder: Path) -> None:  # noqa: B027 - not every program needs it
        """Prepare `folder`, and the namespace it is called in, for the real program; called once."""

    def helper(self, settings: ProgramSettings) -> tuple[list[str], int] | None:  # noqa: ARG002 - for subclasses
        """Return the command of a server that the real program needs, and the TCP port on which it listens."""
        return None

    @abstractmethod
    def configure(self, settings: ProgramSettings) -> list[str]:
        """Write the real program's configuration; return the command that runs it in the foreground."""


def proxy_kinds() -> Mapping[ProxyKind, LabProxyKind]:
    """Return all kinds by their names."""
    return {name: proxy_kind(name) for name in get_args(ProxyKind)}


def proxy_kind(name: ProxyKind) -> LabProxyKind:
    """Return the kind with this name."""
    return cast("LabProxyKind", import_module(f"sim.proxies.{name}").KIND)


def hashed(password: str) -> str:
    """Return the hash of a password for /etc/shadow and htpasswd files (SHA-512 of crypt(3))."""
    command = ["openssl", "passwd", "-6", "-salt", "clinic", password]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
