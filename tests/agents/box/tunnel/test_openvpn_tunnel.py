"""A real OpenVPN tunnel opens with its session's credentials, reaches one port of one instrument, and ends."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from agents.box.tunnel.openvpn import OpenVpnTunnel
from agents.box.tunnel.tunnel import SessionKey, Tunnel
from datacenter.sessions.surroundings import EndpointError, TunnelEndpoint
from datacenter.tunnel.endpoint import OpenVpnEndpoint
from datacenter.tunnel.listener import TunnelListener
from datacenter.tunnel.namespace import socket_of
from settings.types import Endpoint, ProxyKind
from tests.support.agents.sessions.tunnels import (
    DESKTOP,
    DEVICE,
    INSTRUMENT,
    OTHER,
    PATH,
    STAFF,
    UNPRIVILEGED,
    BoxNetwork,
    TunnelEnds,
    box_network,
    device_packets,
    running_proxy,
    tunnel_ends,
)
from tests.support.eventually import WAIT_SECONDS_MAX, eventually
from tests.support.paths import ROOT
from tests.support.sessions.tunnel_cases import CASES, GREETING, Received, TunnelCase, case_name
from tests.support.wire.grants import ENDPOINT, OFFER

pytestmark = pytest.mark.kernel
Act = Callable[[TunnelEnds, BoxNetwork], Awaitable[None]]


async def serve_desktop(network: BoxNetwork) -> None:
    """Send a greeting to each connection to the instrument's desktop port and to another port."""
    for port in (DESKTOP, OTHER):
        own = network.instrument.socket(socket.AF_INET, socket.SOCK_STREAM)
        own.bind((str(INSTRUMENT), port))
        await asyncio.start_server(lambda _, writer: writer.write(GREETING), sock=own)


def use(folder: Path, act: Act, kind: ProxyKind | None = None) -> None:
    """Call `act` with both ends of a closed tunnel, for which the firewall has an open path."""

    async def inside(network: BoxNetwork) -> None:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await serve_desktop(network)
            network.open_path()
            if kind is None:
                async with tunnel_ends(folder) as ends:
                    await act(ends, network)
                return
            with running_proxy(kind, folder) as proxy:
                async with tunnel_ends(folder, proxy) as ends:
                    await act(ends, network)

    with box_network() as network:
        asyncio.run(inside(network))


async def greeting(ends: TunnelEnds) -> bytes:
    """Return the greeting that the data center reads from the instrument's desktop."""
    received = Received()
    await ends.server.connect(received)
    return await received.first


class OpenVpnBench:
    """A `TunnelBench` that runs the real OpenVPN."""

    def __init__(
        self, network: BoxNetwork, listener: TunnelListener, address: Endpoint, folder: Path
    ) -> None:
        self._network, self._folder = network, folder
        self.listener, self.address, self.nowhere = listener, address, Endpoint("127.0.0.1", 9)
        self.ends: list[TunnelEndpoint | Tunnel] = []

    def now(self) -> datetime:
        return datetime.now(UTC)

    def make_endpoint(self, authority: EllipticCurvePrivateKey) -> TunnelEndpoint:
        self.ends.append(
            endpoint := OpenVpnEndpoint(
                OFFER.id, authority, STAFF, INSTRUMENT, DESKTOP, self.listener, self._folder
            )
        )
        return endpoint

    def make_tunnel(self) -> Tunnel:
        self.ends.append(tunnel := OpenVpnTunnel(DEVICE, self._folder, prefix=UNPRIVILEGED))
        return tunnel

    async def open_path(self) -> None:
        self._network.open_path()

    async def close_path(self) -> None:
        self._network.sessions.close(PATH)

    def packets(self) -> int:
        return device_packets()

    async def until_sent(self) -> None:
        before = device_packets()
        await eventually(lambda: device_packets() > before)


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_an_openvpn_tunnel_behaves_like_the_emulated_one(tmp_path: Path, case: TunnelCase) -> None:
    async def inside(network: BoxNetwork) -> None:
        listener = TunnelListener()
        server = await asyncio.get_running_loop().create_server(listener.accept, "127.0.0.1", 0)
        address = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
        bench = OpenVpnBench(network, listener, address, tmp_path)
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await serve_desktop(network)
                await case(bench)
        finally:
            server.close()
            for end in bench.ends:
                await (end.close() if isinstance(end, OpenVpnTunnel) else end.stop())  # type: ignore[union-attr]

    with box_network() as network:
        asyncio.run(inside(network))


@pytest.mark.parametrize("kind", [None, "http", "socks5"])
def test_the_data_center_reaches_the_instrument_through_an_open_tunnel(
    tmp_path: Path, kind: ProxyKind | None
) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        assert device_packets() == 0
        await ends.open()
        assert await greeting(ends) == GREETING
        await ends.tunnel.close()
        assert await ends.server.ended == "the box has closed the tunnel"

    use(tmp_path, act, kind)


def test_an_open_tunnel_reaches_no_other_port_and_no_other_address(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        await ends.open()
        loop = asyncio.get_running_loop()
        for address in ((str(INSTRUMENT), OTHER), ("10.77.1.1", DESKTOP), ("10.99.0.1", 443)):
            with await socket_of(ends.server.pid) as own:
                with pytest.raises(OSError, match=r"Connect call failed|unreachable") as raised:
                    await loop.sock_connect(own, address)
                assert raised.value.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
        assert await greeting(ends) == GREETING

    use(tmp_path, act)


def test_the_data_center_detects_whether_its_end_is_fenced(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        assert await ends.server.is_fenced()
        await ends.open()
        assert await ends.server.is_fenced()
        namespace = f"--net=/proc/{ends.server.pid}/ns/net"
        removed = await asyncio.create_subprocess_exec("nsenter", namespace, "nft", "delete table inet fence")
        assert await removed.wait() == 0
        assert not await ends.server.is_fenced()

    use(tmp_path, act)


def test_the_end_of_the_boxs_openvpn_ends_both(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        await ends.open()
        os.kill(ends.tunnel.pid, signal.SIGKILL)
        assert await ends.tunnel.ended
        assert await ends.server.ended

    use(tmp_path, act)


def test_the_end_of_the_server_ends_the_tunnel(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        await ends.open()
        os.kill(ends.server.pid, signal.SIGKILL)
        assert await ends.tunnel.ended

    use(tmp_path, act)


def test_an_endpoint_that_cannot_be_started_raises_an_error(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        folder = tmp_path / "absent"
        endpoint = OpenVpnEndpoint(OFFER.id, ENDPOINT, STAFF, INSTRUMENT, DESKTOP, ends.listener, folder)
        await endpoint.start(SessionKey().public_key, datetime.now(UTC))
        with pytest.raises(EndpointError):
            await endpoint.opened()
        await endpoint.stop()

    use(tmp_path, act)


def test_a_prepared_program_that_receives_no_certificate_ends_with_the_tunnel(tmp_path: Path) -> None:
    def loaded() -> list[str]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return [child for child in children if Path(f"/proc/{child}/comm").read_text() == "openvpn\n"]

    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        def is_started() -> bool:
            with suppress(AssertionError):
                return str(ends.tunnel.pid) in loaded()
            return False

        before, server = device_packets(), loaded()
        ends.tunnel.prepare(ends.endpoint)
        await eventually(is_started)
        await ends.tunnel.close()
        assert loaded() == server
        assert device_packets() == before

    use(tmp_path, act)
    assert not list(tmp_path.glob("openvpn-*")), "the management socket remains"


def test_openvpn_does_not_outlive_the_program_that_started_it(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from agents.box.tunnel.tunnel import SessionKey
from datacenter.tunnel.keys import make_keys, make_tls_crypt
from datacenter.tunnel.server import TunnelServer
from tests.support.agents.sessions.tunnels import DESKTOP, INSTRUMENT, SESSION, STAFF
from tests.support.wire.grants import ENDPOINT

async def main():
    until, tls_crypt = datetime.now(UTC) + timedelta(hours=1), await make_tls_crypt(SESSION)
    keys = make_keys(SESSION, ENDPOINT, SessionKey().public_key, until, tls_crypt)
    server = TunnelServer(keys, STAFF, INSTRUMENT, DESKTOP, Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    await server.ended

asyncio.run(main())
"""

    async def inside() -> None:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, str(tmp_path)), stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        assert program.stdout is not None
        openvpn = os.pidfd_open(int(await program.stdout.readline()))
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(openvpn, ended.set)
        program.kill()
        await program.wait()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await ended.wait()
        asyncio.get_running_loop().remove_reader(openvpn)
        os.close(openvpn)

    asyncio.run(inside())
