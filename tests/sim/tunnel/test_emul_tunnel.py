"""The emulated tunnel behaves as the real one, and sends its packets over a line of the simulated network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from agents.box.tunnel.tunnel import Credentials, SessionKey, Tunnel, TunnelError
from datacenter.sessions.surroundings import TunnelEndpoint
from datacenter.tunnel.listener import TunnelListener
from settings.types import Endpoint
from sim.net.loop import SimLoop
from tests.support.sessions.network import TUNNEL_ADDRESS, SessionNetwork, run_at_box
from tests.support.sessions.tunnel_cases import CASES, GREETING, Received, TunnelCase, case_name
from tests.support.wire.grants import ENDPOINT, OFFER
from wire.openvpn.options import PING_LOST_SECONDS, PING_SECONDS


class EmulBench:
    """A `TunnelBench` in virtual time."""

    def __init__(self, network: SessionNetwork) -> None:
        self.network = network
        self.listener: TunnelListener = network.listener
        self.address, self.nowhere = TUNNEL_ADDRESS, Endpoint(TUNNEL_ADDRESS.host, 9)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.network.wall_ns() / 1e9, UTC)

    def make_endpoint(self, authority: EllipticCurvePrivateKey) -> TunnelEndpoint:
        return self.network.make_endpoint(OFFER, authority)

    def make_tunnel(self) -> Tunnel:
        return self.network.make_tunnel()

    async def open_path(self) -> None:
        assert await self.network.path.open(OFFER, 3600)

    async def close_path(self) -> None:
        await self.network.path.close(OFFER)

    def packets(self) -> int:
        return sum(tunnel.packets for tunnel in self.network.tunnels)

    async def until_sent(self) -> None:
        await asyncio.sleep(1)

    async def open(self, valid: timedelta = timedelta(hours=1)) -> tuple[Tunnel, TunnelEndpoint]:
        """Open a tunnel, without a path to the instrument."""
        key, endpoint, tunnel = SessionKey(), self.make_endpoint(ENDPOINT), self.make_tunnel()
        issued = await endpoint.start(key.public_key, self.now() + valid)
        await tunnel.open(self.address, Credentials(OFFER.id.hex(), *issued), key)
        await endpoint.opened()
        return tunnel, endpoint


def run(act: Callable[[EmulBench], Awaitable[None]]) -> None:
    """Run `act` on a box in virtual time."""
    loop = SimLoop()
    network = SessionNetwork(loop)

    async def inside() -> None:
        await network.start()
        await act(EmulBench(network))

    run_at_box(loop, inside, network.box)


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_an_emulated_tunnel_behaves_as_the_real_one(case: TunnelCase) -> None:
    run(case)


def test_the_path_through_the_firewall_expires() -> None:
    async def act(bench: EmulBench) -> None:
        _, endpoint = await bench.open()
        assert await bench.network.path.open(OFFER, 60)
        received = Received()
        await endpoint.connect(received)
        assert await received.first == GREETING
        packets = bench.packets()
        await asyncio.sleep(60)
        with pytest.raises(TimeoutError):
            await endpoint.connect(Received())
        assert bench.packets() == packets

    run(act)


@pytest.mark.parametrize("end", ["box", "data center"])
def test_each_end_detects_a_dead_line(end: str) -> None:
    async def act(bench: EmulBench) -> None:
        tunnel, endpoint = await bench.open()
        await asyncio.sleep(10 * PING_SECONDS)
        assert not tunnel.ended.done()
        bench.network.line.cut()
        before = asyncio.get_running_loop().time()
        assert "dead" in await (tunnel.ended if end == "box" else endpoint.ended)
        assert asyncio.get_running_loop().time() - before <= PING_LOST_SECONDS
        await tunnel.close()
        await endpoint.stop()

    run(act)


def test_a_box_whose_clock_is_two_days_fast_refuses_the_certificate_of_the_server() -> None:
    async def act(bench: EmulBench) -> None:
        bench.network.clock_error_s = 2 * 86_400.0
        with pytest.raises(TunnelError, match="expired"):
            await bench.open()

    run(act)


def test_an_idle_tunnel_sends_few_bytes_and_all_of_them_over_the_line() -> None:
    async def act(bench: EmulBench) -> None:
        line = bench.network.line
        assert line.forward.bytes == 0
        _, endpoint = await bench.open()
        up, down = line.forward.bytes, line.backward.bytes
        assert 1500 < up < 4000
        assert 1500 < down < 4000
        await asyncio.sleep(60)
        assert line.forward.bytes + line.backward.bytes - up - down <= 1500
        await bench.open_path()
        received = Received()
        await endpoint.connect(received)
        assert await received.first == GREETING

    run(act)
