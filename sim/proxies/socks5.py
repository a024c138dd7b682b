"""SOCKS5 proxies (RFC 1928, RFC 1929): a simulated one that supports only CONNECT, and dante.

dante cannot inspect TLS; if the lab requires that, dante connects through an inspecting squid on the same host.
"""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar, Final

from sim.proxies.kind import CREDENTIALS, USER, LabProxyKind, ProgramSettings, hashed
from sim.proxies.relay import Behavior, ProxyTunnel
from sim.proxies.squid import inspecting_parent

VERSION: Final = 5
NO_AUTHENTICATION, USER_PASSWORD, NONE_ACCEPTABLE = 0x00, 0x02, 0xFF
CONNECT: Final = 1
ADDRESS_LENGTHS: Final = {1: 4, 4: 16}
DOMAIN: Final = 3
SUCCEEDED, GENERAL_FAILURE, HOST_UNREACHABLE, COMMAND_UNSUPPORTED, ADDRESS_UNSUPPORTED = 0, 1, 4, 7, 8
DANTE: Final = """\
logoutput: stderr
internal: {interface} port = {port}
external: {interface}
clientmethod: none
socksmethod: {method}
user.privileged: root
user.unprivileged: nobody
{idle_timeout}
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 port = 443 }}
"""
DANTE_PARENT: Final = """\
route {{
    from: 0.0.0.0/0 to: 0.0.0.0/0 via: 127.0.0.1 port = {port}
    proxyprotocol: http_v1.0
    command: connect
}}
"""
INSPECTION_PORT: Final = 3130
"""The TCP port of the inspecting squid, on the proxy's loopback."""


class Socks5Proxy(ProxyTunnel):
    """A client's connection to a SOCKS5 proxy; `credentials` are (user, password), None for no authentication."""

    def __init__(self, behavior: Behavior, credentials: tuple[str, str] | None) -> None:
        super().__init__(behavior)
        self._credentials = credentials
        self._step = self._greeting

    def negotiate(self, received: bytearray) -> None:
        while received and not self._client.is_closing() and not self._opening:
            taken = self._step(bytes(received))
            if not taken:
                return
            del received[:taken]

    def _greeting(self, data: bytes) -> int:
        if data[0] != VERSION:
            self._client.abort()
            return len(data)
        if len(data) < 2 or len(data) < 2 + data[1]:
            return 0
        method = NO_AUTHENTICATION if self._credentials is None else USER_PASSWORD
        if method not in data[2 : 2 + data[1]]:
            self.refuse(bytes((VERSION, NONE_ACCEPTABLE)))
            return len(data)
        self.answer(bytes((VERSION, method)))
        self._step = self._request if self._credentials is None else self._authentication
        return 2 + data[1]

    def _authentication(self, data: bytes) -> int:
        if len(data) < 2 or len(data) < 3 + data[1] or len(data) < 3 + data[1] + data[2 + data[1]]:
            return 0
        user_end = 2 + data[1]
        password_end = user_end + 1 + data[user_end]
        given = (data[2:user_end].decode("latin-1"), data[user_end + 1 : password_end].decode("latin-1"))
        if self._behavior.refuses or given != self._credentials:
            self.refuse(b"\x01\x01")
            return len(data)
        self.answer(b"\x01\x00")
        self._step = self._request
        return password_end

    def _request(self, data: bytes) -> int:
        if len(data) < 5:
            return 0
        length = 1 + data[4] if data[3] == DOMAIN else ADDRESS_LENGTHS.get(data[3])
        if data[1] != CONNECT or length is None:
            self.refuse(_reply(COMMAND_UNSUPPORTED if data[1] != CONNECT else ADDRESS_UNSUPPORTED))
            return len(data)
        end = 4 + length
        if len(data) < end + 2:
            return 0
        host = data[5:end].decode("latin-1") if data[3] == DOMAIN else str(ip_address(data[4:end]))
        if self._behavior.refuses and self._credentials is None:
            self.refuse(_reply(GENERAL_FAILURE))
        else:
            self.open(host, int.from_bytes(data[end : end + 2]))
        return end + 2

    def established(self) -> bytes:
        return _reply(SUCCEEDED)

    def unreachable(self) -> bytes:
        return _reply(HOST_UNREACHABLE)


def _reply(code: int) -> bytes:
    return bytes((VERSION, code, 0, 1)) + bytes(6)


class Socks5Kind(LabProxyKind):
    """SOCKS5 (RFC 1928), with a password (RFC 1929)."""

    name: ClassVar = "socks5"
    port: ClassVar = 1080
    auths: ClassVar = ("none", "password")
    packages: ClassVar = {"danted": "dante-server", "squid": "squid-openssl", "openssl": "openssl"}

    def accept(self, behavior: Behavior, auth: str, folder: Path) -> ProxyTunnel:  # noqa: ARG002
        return Socks5Proxy(behavior, None if auth == "none" else CREDENTIALS)

    def prepare_program(self, folder: Path) -> None:
        _enrol(folder)

    def helper(self, settings: ProgramSettings) -> tuple[list[str], int] | None:
        if settings.inspector is None:
            return None
        folder = settings.folder / "inspection"
        return inspecting_parent(folder, settings.inspector, INSPECTION_PORT), INSPECTION_PORT

    def configure(self, settings: ProgramSettings) -> list[str]:
        idle = settings.idle_seconds_max
        config = settings.folder / "danted.conf"
        _set_password(settings.password)
        config.write_text(
            DANTE.format(
                port=self.port,
                interface=settings.interface,
                method="username" if settings.auth != "none" or settings.refuses else "none",
                idle_timeout="" if idle is None else f"timeout.io.tcp: {idle}",
            )
            + (DANTE_PARENT.format(port=INSPECTION_PORT) if settings.inspector else "")
        )
        return ["danted", "-f", str(config), "-p", str(settings.folder / "danted.pid")]


def _enrol(folder: Path) -> None:
    """Create the user that dante authenticates, in copies of /etc/passwd and /etc/shadow that only the lab sees."""
    user = f"{USER}:x:64077:64077::/nonexistent:/usr/sbin/nologin\n"
    for name, line in (("passwd", user), ("shadow", "")):
        copy = folder / name
        shutil.copy(f"/etc/{name}", copy)
        copy.write_text(copy.read_text() + line)
        subprocess.run(["mount", "--bind", copy, f"/etc/{name}"], check=True)


def _set_password(password: str) -> None:
    shadow = Path("/etc/shadow")
    others = [line for line in shadow.read_text().splitlines() if not line.startswith(f"{USER}:")]
    shadow.write_text("\n".join([*others, f"{USER}:{hashed(password)}:19000:0:99999:7:::"]) + "\n")


KIND: Final = Socks5Kind()
