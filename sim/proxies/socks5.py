"""A SOCKS5 proxy that supports only CONNECT, with or without user and password (RFC 1928, RFC 1929)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from sim.proxies.relay import Behavior, ProxyTunnel

VERSION: Final = 5
NO_AUTHENTICATION, USER_PASSWORD, NONE_ACCEPTABLE = 0x00, 0x02, 0xFF
CONNECT: Final = 1
ADDRESS_LENGTHS: Final = {1: 4, 4: 16}
DOMAIN: Final = 3
SUCCEEDED, GENERAL_FAILURE, HOST_UNREACHABLE, COMMAND_UNSUPPORTED, ADDRESS_UNSUPPORTED = 0, 1, 4, 7, 8


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
