"""Remote sessions in the kernel world: staff use the data center's API, persons the box's local page.

Both programs, OpenVPN and the firewall are real. The instruments' desktops are the simulated ones of the virtual
world, in the network of the instruments.
"""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from settings.profile import load_profile
from sim.instruments.desktop import InstrumentDesktop
from sim.lab.labfile import LabInstrument
from sim.lab.sessions import LabSession
from sim.worlds.kernel.analyzer import KernelComputer
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.shared.site.addresses import (
    BOX_SERIAL,
    DATACENTER_PORT,
    DATACENTER_TUNNEL,
    TUNNEL_BOX,
    TUNNEL_DEVICE,
    instrument_address,
)
from wire.http.connection import ClientConnection, HttpError, Response
from wire.session.table import SessionState

PAGES_PORT: Final = 8080
TUNNEL_PORT: Final = 1194
"""The TCP port on which the data center's program accepts tunnels. Boxes connect to the port for reports at
DATACENTER_TUNNEL, which the network redirects here."""
_TUNNEL_REDIRECTION: Final = f"""\
table ip tunnels {{
    chain arriving {{
        type nat hook prerouting priority dstnat
        ip daddr {DATACENTER_TUNNEL} tcp dport {DATACENTER_PORT} dnat to {DATACENTER_TUNNEL}:{TUNNEL_PORT}
    }}
}}
"""
STAFF_SECONDS: Final = 60
"""How long staff try to request a session with an instrument that the data center does not know yet."""
REPLY_BYTES_MAX: Final = 1 << 20
_POLL_SECONDS: Final = 0.5
_HTTP_OK: Final = 200


def make_tun_device(box: NamespaceHost) -> None:
    """Make the TUN device of a box, as its image does."""
    with box.inside():
        for arguments in (
            ("tuntap", "add", "dev", TUNNEL_DEVICE, "mode", "tun", "user", "root"),
            ("addr", "add", f"{TUNNEL_BOX}/29", "dev", TUNNEL_DEVICE),
            ("link", "set", TUNNEL_DEVICE, "addrgenmode", "none", "up"),
        ):
            subprocess.run(("ip", *arguments), check=True)


def redirect_tunnels(datacenter: NamespaceHost) -> None:
    """Redirect tunnels to TUNNEL_PORT: the program listens for reports on DATACENTER_PORT of all addresses."""
    with datacenter.inside():
        subprocess.run(("nft", "-f", "-"), input=_TUNNEL_REDIRECTION, text=True, check=True)


async def serve_desktop(host: NamespaceHost, spec: LabInstrument, tcp_port: int) -> InstrumentDesktop:
    """Start a VNC server in the network of an instrument."""
    desktop = InstrumentDesktop(load_profile(spec.model).desktop)
    with host.inside():
        listener = socket.create_server((instrument_address(spec.port), tcp_port))
    await asyncio.start_server(desktop.serve, sock=listener)
    return desktop


class KernelStaffPortal:
    """A `StaffPortal`: the data center's API, on its own host."""

    def __init__(self, host: NamespaceHost, secret: Callable[[str], str]) -> None:
        """`secret` returns the secret of a staff member's API token."""
        self._computer, self._secret = KernelComputer(host), secret

    async def request(self, session: LabSession, serial: str) -> KernelStaffSession:
        """See `StaffPortal.request`."""
        request = {
            "reason": "a simulated fault",
            "ticket": "T-1",
            "mode": session.mode,
            "minutes": session.lasts // 60_000_000_000,
        }
        for _ in range(round(STAFF_SECONDS / _POLL_SECONDS)):
            path = f"/instruments/{BOX_SERIAL}/{serial}/sessions"
            answer = await self.ask(session.staff, "POST", path, request)
            if answer is not None:
                return await self._with_code(session.staff, answer)
            await asyncio.sleep(_POLL_SECONDS)
        return KernelStaffSession(self, session.staff, "", "")

    async def _with_code(self, staff: str, answer: dict[str, Any]) -> KernelStaffSession:
        """Wait for the code, which exists once the offer is signed."""
        while not answer["code"] and not answer["cause"]:
            await asyncio.sleep(_POLL_SECONDS)
            answer = await self.ask(staff, "GET", f"/sessions/{answer['session']}") or answer
        return KernelStaffSession(self, staff, answer["session"], answer["code"])

    async def ask(self, staff: str, method: str, path: str, body: object = None) -> dict[str, Any] | None:
        """Call the API as a staff member; None if it refuses, or does not answer."""
        answers: list[Response] = []

        async def call() -> None:
            loop = asyncio.get_running_loop()
            authority = f"127.0.0.1:{PAGES_PORT}"
            _, connection = await loop.create_connection(
                lambda: ClientConnection(authority, REPLY_BYTES_MAX), "127.0.0.1", PAGES_PORT
            )
            headers = f"Authorization: Bearer {self._secret(staff)}\r\nContent-Type: application/json\r\n"
            content = b"" if body is None else msgspec.json.encode(body)
            try:
                answers.append(await connection.request(method, f"/api/v1{path}", content, headers))
            finally:
                connection.abort()

        with suppress(OSError, HttpError):
            await self._computer.start(call())
        if not answers or answers[0].status >= 300:
            return None
        answer: dict[str, Any] = msgspec.json.decode(answers[0].body)
        return answer


class KernelStaffSession:
    """A `StaffSessionView`. In this world, staff do not view the desktop."""

    def __init__(self, portal: KernelStaffPortal, staff: str, session: str, code: str) -> None:
        self._portal, self._staff, self._session, self.code = portal, staff, session, code
        self.id = bytes.fromhex(session)

    async def state(self) -> str:
        """See `StaffSessionView.state`."""
        answer = (
            await self._portal.ask(self._staff, "GET", f"/sessions/{self._session}")
            if self._session
            else None
        )
        return "" if answer is None else str(answer["state"])

    async def end(self) -> None:
        """See `StaffSessionView.end`."""
        await self._portal.ask(self._staff, "POST", f"/sessions/{self._session}/end", {})

    async def use(self) -> list[str]:
        """See `StaffSessionView.use`."""
        while True:
            if await self.state() in ("", SessionState.ENDED):
                return []
            await asyncio.sleep(_POLL_SECONDS)


def page_at_socket(path: Path, port: int) -> KernelPage:
    """Return the page of a port at the box program's UNIX socket, as httpd passes requests on to it."""

    async def connect() -> ClientConnection:
        loop = asyncio.get_running_loop()
        return (
            await loop.create_unix_connection(lambda: ClientConnection("box", REPLY_BYTES_MAX), str(path))
        )[1]

    return KernelPage(connect, f"X-Rap-Port: {port}\r\n")


class KernelPage:
    """A `PageOfPort`: the box's page as a browser without scripts uses it."""

    def __init__(self, connect: Callable[[], Awaitable[ClientConnection]], headers: str = "") -> None:
        """`connect` connects to its server, and may raise OSError; `headers` are lines of each request."""
        self._connect, self._headers = connect, headers

    async def state(self, session: bytes) -> str:
        """See `PageOfPort.state`; a session that is not offered and can be ended counts as open."""
        target = f"/session/{session.hex()}"
        if f'{target}/code"' in await self._get(f"/offer/{session.hex()}"):
            return SessionState.OFFERED
        return SessionState.OPEN if f'{target}/end"' in await self._get("/") else ""

    async def look(self) -> None:
        """See `PageOfPort.look`."""
        await self._get("/")

    async def enter_code(self, session: bytes, code: str) -> bool:
        """See `PageOfPort.enter_code`."""
        answer = await self._post(session, "code", f"/offer/{session.hex()}", f"code={code}")
        return answer is not None and answer.headers.get("location", "").endswith("permitted")

    async def refuse(self, session: bytes) -> None:
        """See `PageOfPort.refuse`."""
        await self._post(session, "refuse", f"/offer/{session.hex()}", "")

    async def end(self, session: bytes) -> None:
        """See `PageOfPort.end`."""
        await self._post(session, "end", "/", "")

    async def _post(self, session: bytes, action: str, page: str, fields: str) -> Response | None:
        target = f"/session/{session.hex()}/{action}"
        form = (await self._get(page)).partition(f'action="{target}"')[2]
        token = re.search(r'name="?token"? value="?([0-9a-f]+)', form)
        return await self._ask("POST", target, f"token={token[1]}&{fields}") if token else None

    async def _get(self, target: str) -> str:
        answer = await self._ask("GET", target)
        return answer.body.decode() if answer is not None and answer.status == _HTTP_OK else ""

    async def _ask(self, method: str, target: str, body: str = "") -> Response | None:
        with suppress(OSError, HttpError):
            connection = await self._connect()
            try:
                return await connection.request(method, target, body.encode(), self._headers)
            finally:
                connection.abort()
        return None
