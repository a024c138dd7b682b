"""An HTTP proxy that knows one method: CONNECT, with or without Basic authentication (RFC 9110, RFC 7617)."""

from __future__ import annotations

import base64

from sim.proxies.relay import Behavior, Tunnel


class HttpConnectProxy(Tunnel):
    """One client's connection to the proxy; `credentials` are user and password, or None for an open proxy."""

    def __init__(self, behavior: Behavior, credentials: tuple[str, str] | None) -> None:
        super().__init__(behavior)
        self._expected = None
        if credentials is not None:
            self._expected = "Basic " + base64.b64encode(":".join(credentials).encode()).decode()

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
        elif self._behavior.refuses or not self._authorized(lines[1:]):
            self.refuse(
                _status(407, "Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="clinic"')
            )
        else:
            self.open(host, int(port))

    def _authorized(self, headers: list[str]) -> bool:
        if self._expected is None:
            return True
        fields = (header.partition(":") for header in headers)
        given = {name.strip().lower(): value.strip() for name, _, value in fields}
        return given.get("proxy-authorization") == self._expected

    def established(self) -> bytes:
        return b"HTTP/1.1 200 Connection established\r\n\r\n"

    def unreachable(self) -> bytes:
        return _status(502, "Bad Gateway")


def _status(status: int, phrase: str, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status} {phrase}", *headers, "Content-Length: 0", "Connection: close", "", "")
    return "\r\n".join(lines).encode()
