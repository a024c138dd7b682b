"""A real tunnel of OpenVPN opens with what was made for its session, reaches one port of one instrument, and ends."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.box.tunnel.openvpn import OpenVpnTunnel
from agents.box.tunnel.tunnel import Credentials, SessionKey, TunnelError
from datacenter.sessions.surroundings import EndpointError
from datacenter.tunnel.endpoint import OpenVpnEndpoint
from datacenter.tunnel.keys import TunnelKeys, make_keys
from datacenter.tunnel.namespace import socket_of
from settings.types import Endpoint, ProxyKind
from tests.support.agents.tunnels import (
    DESKTOP,
    DEVICE,
    INSTRUMENT,
    OTHER,
    PATH,
    SESSION,
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
from tests.support.wire.grants import ENDPOINT, OFFER, STRANGER

pytestmark = pytest.mark.kernel
GREETING = b"RFB 003.008\n"
Act = Callable[[TunnelEnds, BoxNetwork], Awaitable[None]]


class Received(asyncio.Protocol):
    """What arrives first on a connection; nothing if it ends before."""

    def __init__(self) -> None:
        self.first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self.first.done():
            self.first.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.data_received(b"")


async def serve_desktop(network: BoxNetwork) -> None:
    """Let the instrument greet on its desktop port, and on another one."""
    for port in (DESKTOP, OTHER):
        own = network.instrument.socket(socket.AF_INET, socket.SOCK_STREAM)
        own.bind((str(INSTRUMENT), port))
        await asyncio.start_server(lambda _, writer: writer.write(GREETING), sock=own)


def use(folder: Path, act: Act, kind: ProxyKind | None = None) -> None:
    """Call `act` with both ends of a tunnel that is not open; there is a path for it through the firewall."""

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
    """What the data center reads from the instrument's desktop."""
    received = Received()
    await ends.server.connect(received)
    return await received.first


async def refusal(
    ends: TunnelEnds, credentials: Credentials | None = None, key: SessionKey | None = None
) -> str:
    """Try to open the tunnel with other credentials or another key; return the error."""
    with pytest.raises(TunnelError) as raised:
        await ends.tunnel.open(ends.endpoint, credentials or ends.credentials, key or ends.key)
    assert device_packets() == 0
    return str(raised.value)


async def keys_of_a_stranger(ends: TunnelEnds) -> TunnelKeys:
    """Keys for the same session and the same key of the box, by another authority."""
    return await make_keys(SESSION, STRANGER, ends.key.public_key, datetime.now(UTC) + timedelta(hours=1))


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


def test_an_open_tunnel_passes_nothing_without_the_path_of_the_firewall(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, network: BoxNetwork) -> None:
        await ends.open()
        network.sessions.close(PATH)
        waiting = asyncio.ensure_future(greeting(ends))
        await eventually(lambda: device_packets() > 0)
        assert not waiting.done()
        network.open_path()
        assert await waiting == GREETING  # as TCP repeats its first packet

    use(tmp_path, act)


def test_credentials_of_another_session_open_no_tunnel(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        others = await keys_of_a_stranger(ends)
        foreign = replace(ends.credentials, tls_crypt=others.client_tls_crypt)
        assert "lost" in await refusal(ends, foreign)
        assert ends.door.refused == 1

    use(tmp_path, act)


def test_a_certificate_of_another_authority_opens_no_tunnel(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        others = await keys_of_a_stranger(ends)
        await refusal(ends, replace(ends.credentials, certificate=others.client_certificate))

    use(tmp_path, act)


def test_a_server_of_another_authority_is_refused(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        others = await keys_of_a_stranger(ends)
        await refusal(ends, replace(ends.credentials, authority=others.authority))

    use(tmp_path, act)


def test_another_key_than_that_of_the_certificate_opens_no_tunnel(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        await refusal(ends, key=SessionKey())

    use(tmp_path, act)


def test_a_key_that_was_forgotten_opens_no_tunnel(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        ends.key.forget()
        assert "forgotten" in await refusal(ends)

    use(tmp_path, act)


def test_an_expired_certificate_opens_no_tunnel(tmp_path: Path) -> None:
    async def inside() -> None:
        async with tunnel_ends(tmp_path, valid=timedelta(seconds=-1)) as ends:
            await refusal(ends)

    with box_network():
        asyncio.run(inside())


def test_a_reconnection_after_the_end_is_refused(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        await ends.open()
        await ends.tunnel.close()
        again = OpenVpnTunnel(DEVICE, tmp_path, prefix=UNPRIVILEGED)
        with pytest.raises(TunnelError):
            await again.open(ends.endpoint, ends.credentials, ends.key)
        assert ends.door.refused == 1

    use(tmp_path, act)


def test_a_data_center_that_is_not_there_is_told(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        with pytest.raises(TunnelError, match=r"127\.0\.0\.1:9 cannot be reached: Connection refused"):
            await ends.tunnel.open(Endpoint("127.0.0.1", 9), ends.credentials, ends.key)

    use(tmp_path, act)


def test_the_end_of_either_program_ends_both(tmp_path: Path) -> None:
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


def test_the_data_center_ends_the_tunnel(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        await ends.open()
        await ends.server.stop()
        assert await ends.tunnel.ended

    use(tmp_path, act)


def test_an_endpoint_of_a_session_is_opened_by_what_it_has_issued(tmp_path: Path) -> None:
    async def act(ends: TunnelEnds, _: BoxNetwork) -> None:
        endpoint = OpenVpnEndpoint(OFFER.id, ENDPOINT, STAFF, INSTRUMENT, DESKTOP, ends.door, tmp_path)
        key = SessionKey()
        issued = await endpoint.start(key.public_key, datetime.now(UTC) + timedelta(hours=1))
        tunnel = OpenVpnTunnel(DEVICE, tmp_path, prefix=UNPRIVILEGED)
        credentials = Credentials(OFFER.id.hex(), issued.certificate, issued.authority, issued.tls_crypt)
        await tunnel.open(ends.endpoint, credentials, key)
        await endpoint.opened()
        received = Received()
        await endpoint.connect(received)
        assert await received.first == GREETING
        await endpoint.stop()
        assert await tunnel.ended
        with pytest.raises(EndpointError):
            await OpenVpnEndpoint(
                OFFER.id, ENDPOINT, STAFF, INSTRUMENT, DESKTOP, ends.door, tmp_path / "absent"
            ).start(key.public_key, datetime.now(UTC))

    use(tmp_path, act)


def test_openvpn_does_not_outlive_the_program_that_started_it(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from agents.box.tunnel.tunnel import SessionKey
from datacenter.sessions.surroundings import EndpointError
from datacenter.tunnel.endpoint import OpenVpnEndpoint
from datacenter.tunnel.keys import TunnelKeys, make_keys
from datacenter.tunnel.server import TunnelServer
from tests.support.agents.tunnels import DESKTOP, INSTRUMENT, SESSION, STAFF
from tests.support.wire.grants import ENDPOINT

async def main():
    keys = await make_keys(SESSION, ENDPOINT, SessionKey().public_key, datetime.now(UTC) + timedelta(hours=1))
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
