"""A tunnel of OpenVPN on an existing TUN device.

OpenVPN connects to a relay on the loopback interface, whose other end is connected before OpenVPN starts: the box's
own dialer supports all kinds of proxies, reports why a proxy refuses, and waits for slow ones. OpenVPN's own code for
proxies does none of this, and waits two seconds after the response of an HTTP proxy.

OpenVPN needs no privilege: it opens the device as the device's owner, and changes neither addresses nor routes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agents.box.tunnel.tunnel import Credentials, SessionKey, TunnelError
from settings.types import Endpoint, Proxy
from wire.dial.dialer import reach
from wire.dial.proxy import ProxyError
from wire.openvpn import management
from wire.openvpn.management import CertificateRequest, Event, Failed, Hold, SignatureRequest, State
from wire.openvpn.options import COMMON, inline
from wire.openvpn.program import OpenVpn, OpenVpnError
from wire.openvpn.splice import Side

OPEN_SECONDS_MAX: Final = 60.0
"""Time limit of `open`, until the tunnel passes packets; a proxy may take 20 s to respond."""
_LOOPBACK: Final = "127.0.0.1"
_OPTIONS: Final = """\
client
proto tcp4-client
nobind
ifconfig-noexec
route-noexec
remap-usr1 SIGTERM
connect-retry-max 1
remote-cert-tls server
management-external-key nopadding
"""


class OpenVpnTunnel:
    """The tunnel of one session on the TUN device `device`. `folder` is for the management socket."""

    def __init__(
        self, device: str, folder: Path, proxy: Proxy | None = None, prefix: Sequence[str] = ()
    ) -> None:
        """`prefix` is a command that runs OpenVPN with fewer privileges; empty: none."""
        self._device, self._folder, self._proxy, self._prefix = device, folder, proxy, prefix
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._up: asyncio.Future[None] = loop.create_future()
        self._datacenter = Side(lambda: self._end("the connection to the data center was lost"))
        self._program: OpenVpn | None = None
        self._relay: asyncio.AbstractServer | None = None
        self._credentials: Credentials | None = None
        self._key: SessionKey | None = None
        self._is_held = self._is_reached = False
        self._reaching: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[OpenVpn] | None = None
        self._reason = ""

    def prepare(self, endpoint: Endpoint) -> None:
        """See `Tunnel.prepare`. The program is loaded meanwhile, and waits for its options."""
        loop = asyncio.get_running_loop()
        self._reaching = loop.create_task(self._reach(endpoint))
        self._loading = loop.create_task(self._load())

    async def open(self, endpoint: Endpoint, credentials: Credentials, key: SessionKey) -> None:
        """See `Tunnel.open`."""
        self._credentials, self._key = credentials, key
        if self._reaching is None:
            self.prepare(endpoint)
        assert self._reaching is not None
        assert self._loading is not None
        try:
            async with asyncio.timeout(OPEN_SECONDS_MAX):
                options = _options(self._device, await self._listen(), credentials)
                program = await self._loading
                program.configure(options)
                program.ended.add_done_callback(lambda _: self._end("OpenVPN has ended"))
                await self._reaching  # the program starts meanwhile, and waits
                self._is_reached = True
                if self._is_held:
                    program.send(management.release())
                await self._up
        except TimeoutError:
            await self.close()
            raise TunnelError(
                f"the tunnel was not open after {OPEN_SECONDS_MAX:.0f} s{self._last()}"
            ) from None
        except (OSError, OpenVpnError, ValueError) as error:
            await self.close()
            raise TunnelError(f"{error}{self._last()}") from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See `Tunnel.close`."""
        self._end("closed")
        for task in filter(None, (self._reaching, self._loading)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._program is not None:
            await self._program.stop()

    async def _load(self) -> OpenVpn:
        self._program = program = OpenVpn(self._handle, self._folder)
        await program.load(self._prefix)
        return program

    async def _reach(self, endpoint: Endpoint) -> None:
        """Connect to the data center, through the proxy if there is one."""
        try:
            await reach(endpoint, self._proxy, self._datacenter)
        except ProxyError as error:
            raise TunnelError(
                f"the proxy does not connect to {endpoint.host}:{endpoint.port}: {error}"
            ) from error
        except OSError as error:
            why = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error
            through = "the proxy" if self._proxy is not None else f"{endpoint.host}:{endpoint.port}"
            raise TunnelError(f"{through} cannot be reached: {why}") from error

    @property
    def pid(self) -> int:
        """The process identifier of OpenVPN."""
        assert self._program is not None
        return self._program.pid

    async def _listen(self) -> int:
        """Listen for the program's connection; return the port."""
        self._relay = await asyncio.get_running_loop().create_server(self._accept, _LOOPBACK, 0, backlog=1)
        return int(self._relay.sockets[0].getsockname()[1])

    def _accept(self) -> asyncio.Protocol:
        return _Local(self._datacenter, self._close_relay)

    def _close_relay(self) -> None:
        if self._relay is not None:
            self._relay.close()
            self._relay = None

    def _handle(self, event: Event) -> bytes:
        """Return the response to an event of the program. A refused signature ends the tunnel."""
        match event:
            case Hold():
                self._is_held = True
                return management.release() if self._is_reached else b""
            case CertificateRequest() if self._credentials is not None:
                return management.certificate(self._credentials.certificate)
            case SignatureRequest(digest) if self._key is not None:
                try:
                    return management.signature(self._key.sign(digest))
                except TunnelError as error:
                    self._end(str(error))
            case State("CONNECTED"):
                if not self._up.done():
                    self._up.set_result(None)
            case State("EXITING", detail):
                self._reason = self._reason or detail
            case Failed(text):
                self._reason = self._reason or text
        return b""

    def _end(self, reason: str) -> None:
        """Stop all traffic: close the connections, end the program, and discard the key."""
        if self.ended.done():
            return
        if self._key is not None:
            self._key.forget()
        self._close_relay()
        self._datacenter.close()
        if self._program is not None:
            self._program.disconnect()
        self.ended.set_result(reason)
        if not self._up.done():
            self._up.set_exception(TunnelError(f"{reason}{self._last()}"))
            self._up.exception()  # `open` may already have ended

    def _last(self) -> str:
        """Return the last output of OpenVPN, for a message."""
        output = self._reason or (" / ".join(self._program.log[-2:]) if self._program is not None else "")
        return f"; OpenVPN: {output}" if output else ""


class _Local(Side):
    """The program's connection to the relay, which is joined to `datacenter`; further ones are refused."""

    def __init__(self, datacenter: Side, accepted: Callable[[], object]) -> None:
        super().__init__()
        self._datacenter, self._accepted = datacenter, accepted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._accepted()
        self.join(self._datacenter)


def _options(device: str, port: int, credentials: Credentials) -> str:
    """Return the options of the program.

    Raises: ValueError for a session identifier with other characters than ASCII letters, digits and hyphens.
    """
    if not credentials.session.isascii() or not credentials.session.replace("-", "").isalnum():
        raise ValueError(f"{credentials.session!r} is not the identifier of a session")
    return (
        COMMON
        + _OPTIONS
        + f"dev {device}\nremote {_LOOPBACK} {port}\n"
        + f"verify-x509-name {credentials.session} name\nmanagement-external-cert {credentials.session}\n"
        + inline("ca", credentials.authority)
        + inline("tls-crypt-v2", credentials.tls_crypt)
    )
