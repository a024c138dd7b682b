"""An HTTP proxy that supports only CONNECT (RFC 9110, 9.3.6), with or without authentication."""

from __future__ import annotations

from sim.proxies.http_auth import AcceptAllVerifier
from sim.proxies.relay import Behavior, ProxyTunnel


class HttpConnectProxy(ProxyTunnel):
    """A client's connection to an HTTP proxy, which authenticates it by `auth`.

    A refusal closes the connection, unless `auth` continues on it.
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
        elif self._auth.stays:
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
