"""HTTP proxies with CONNECT (RFC 9110, 9.3.6): a simulated one that supports only CONNECT, and squid."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import ClassVar, Final

from msgspec import structs

from settings.types import Proxy
from sim.proxies.http_auth import AcceptAllVerifier, BasicVerifier, DigestVerifier, SpnegoVerifier
from sim.proxies.kind import CREDENTIALS, PASSWORD, USER, LabProxyKind, ProgramSettings, hashed
from sim.proxies.relay import Behavior, ProxyTunnel
from sim.proxies.spnego import write_passwords
from sim.proxies.squid import SQUID_USER, squid_command, write_inspection
from sim.proxies.squid_spnego import write_squid_login

DOMAIN: Final = "CLINIC"
"""The user's domain, for NTLM and Negotiate."""
SPNEGO_PORT: Final = 3129
"""The TCP port, on the proxy's loopback, of the program that checks the passwords of NTLM and Negotiate."""
VERIFIERS: Final[dict[str, Callable[[Path], AcceptAllVerifier]]] = {
    "none": lambda _: AcceptAllVerifier(),
    "basic": lambda _: BasicVerifier(CREDENTIALS),
    "digest": lambda _: DigestVerifier(CREDENTIALS),
    "ntlm": partial(SpnegoVerifier, "ntlm"),
    "negotiate": partial(SpnegoVerifier, "negotiate"),
}
"""The authentication of a connection; NTLM and Negotiate read passwords from a file."""

SQUID_RULES: Final = """\
{login}
acl secure port 443
http_access deny !secure
http_access {allowed}
http_access deny all
{idle_timeout}"""
SQUID_LOGIN: Final = """\
auth_param basic program {helper} {folder}/passwords
auth_param basic realm clinic
acl known proxy_auth REQUIRED"""
SQUID_DIGEST: Final = """\
auth_param digest program {helper} -c {folder}/passwords
auth_param digest realm clinic
acl known proxy_auth REQUIRED"""


class HttpConnectProxy(ProxyTunnel):
    """A client's connection to an HTTP proxy, which authenticates it by `auth`.

    A refusal closes the connection, unless the authentication method continues on the same connection.
    """

    def __init__(self, behavior: Behavior, auth: AcceptAllVerifier) -> None:
        super().__init__(behavior)
        self._auth = auth

    def negotiate(self, received: bytearray) -> None:
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = received[:end].decode("latin-1").split("\r\n")
        del received[: end + 4]
        method, _, rest = lines[0].partition(" ")
        target, _, version = rest.partition(" ")
        host, _, port = target.rpartition(":")
        if method != "CONNECT" or not version.startswith("HTTP/1.") or not port.isdigit():
            self.refuse(_status(405, "Method Not Allowed", "Allow: CONNECT"))
        elif self._behavior.refuses:
            self.refuse(_challenge(self._auth.challenge))
        elif self._authorized(target, lines[1:]):
            self.open(host, int(port))
        elif self._auth.keep_alive:
            self.answer(_challenge(self._auth.challenge, "keep-alive"))
        else:
            self.refuse(_challenge(self._auth.challenge))

    def _authorized(self, target: str, headers: list[str]) -> bool:
        fields = (header.partition(":") for header in headers)
        given = {name.strip().lower(): value.strip() for name, _, value in fields}
        return self._auth.accepts(given.get("proxy-authorization", ""), target)

    def established(self) -> bytes:
        return b"HTTP/1.1 200 Connection established\r\n\r\n"

    def unreachable(self) -> bytes:
        return _status(502, "Bad Gateway")


def _challenge(challenge: str, connection: str = "close") -> bytes:
    header = f"Proxy-Authenticate: {challenge}"
    return _status(407, "Proxy Authentication Required", header, connection=connection)


def _status(status: int, phrase: str, *headers: str, connection: str = "close") -> bytes:
    last = ("Content-Length: 0", f"Connection: {connection}", "", "")
    lines = (f"HTTP/1.1 {status} {phrase}", *headers, *last)
    return "\r\n".join(lines).encode()


class HttpKind(LabProxyKind):
    """HTTP CONNECT (RFC 9110): Basic (RFC 7617), Digest (RFC 7616), NTLM, Negotiate (RFC 4559, with NTLM inside)."""

    name: ClassVar = "http"
    port: ClassVar = 3128
    auths: ClassVar = tuple(VERIFIERS)
    packages: ClassVar = {"squid": "squid-openssl", "openssl": "openssl"}
    reload_signal: ClassVar = signal.SIGHUP

    def client_settings(self, host: str, auth: str) -> Proxy:
        """Return the settings with the domain, and `basic = "never"` unless the proxy requires Basic."""
        settings = super().client_settings(host, auth)
        if auth in ("none", "basic"):
            return settings
        return structs.replace(
            settings, domain=DOMAIN if auth in ("ntlm", "negotiate") else "", basic="never"
        )

    def accept(self, behavior: Behavior, auth: str, folder: Path) -> ProxyTunnel:
        passwords = folder / "passwords"
        if auth in ("ntlm", "negotiate"):
            write_passwords(passwords, DOMAIN, USER, PASSWORD)
        return HttpConnectProxy(behavior, VERIFIERS[auth](passwords))

    def prepare_program(self, folder: Path) -> None:
        shutil.chown(folder, SQUID_USER, SQUID_USER)

    def helper(self, settings: ProgramSettings) -> tuple[list[str], int] | None:
        if settings.auth not in ("ntlm", "negotiate"):
            return None
        module = [sys.executable, "-m", "sim.proxies.squid_spnego", settings.auth]
        return [*module, str(settings.folder / "passwords"), str(SPNEGO_PORT)], SPNEGO_PORT

    def configure(self, settings: ProgramSettings) -> list[str]:
        has_login = settings.auth != "none"
        idle, inspector = settings.idle_seconds_max, settings.inspector
        inspection = write_inspection(settings.folder, inspector) if inspector else ""
        rules = SQUID_RULES.format(
            login=_squid_login(settings) if has_login else "",
            allowed="allow known" if has_login else "allow all",
            idle_timeout="" if idle is None else f"read_timeout {idle} seconds\nclient_lifetime 1 day",
        )
        return squid_command(settings.folder, f"{self.port}{inspection}", "proxy", rules)


def _squid_login(settings: ProgramSettings) -> str:
    """Write the passwords; return the lines of squid.conf that require them."""
    passwords, scheme, password = settings.folder / "passwords", settings.auth, settings.password
    if scheme in ("ntlm", "negotiate"):
        write_passwords(passwords, DOMAIN, USER, password)
        return write_squid_login(settings.folder, scheme, SPNEGO_PORT) + "\nacl known proxy_auth REQUIRED"
    if scheme == "digest":
        passwords.write_text(f"{USER}:clinic:{_digest_secret(password)}\n")
        return SQUID_DIGEST.format(helper=_helper("digest_file_auth"), folder=settings.folder)
    passwords.write_text(f"{USER}:{hashed(password)}\n")
    return SQUID_LOGIN.format(helper=_helper("basic_ncsa_auth"), folder=settings.folder)


def _helper(name: str) -> Path:
    """Return the path of one of squid's authentication helpers, whose folder differs between Debian and RHEL."""
    folders = (Path("/usr/lib/squid"), Path("/usr/lib64/squid"))
    return next(folder / name for folder in folders if (folder / name).exists())


def _digest_secret(password: str) -> str:
    """Return the hash stored for squid's Digest helper: H(A1) of RFC 7616 with MD5, its only algorithm."""
    return md5(f"{USER}:clinic:{password}".encode(), usedforsecurity=False).hexdigest()


KIND: Final = HttpKind()
