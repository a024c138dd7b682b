"""Requirements for every session tunnel, OpenVPN's or emulated: the cases `CASES`, each on a new bench."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from agents.box.tunnel.tunnel import Credentials, SessionKey, Tunnel, TunnelError
from datacenter.sessions.surroundings import EndpointError, TunnelCredentials, TunnelEndpoint
from datacenter.tunnel.listener import TunnelListener
from settings.types import Endpoint
from tests.support.wire.grants import ENDPOINT, OFFER, STRANGER

GREETING: Final = b"RFB 003.008\n"


class TunnelBench(Protocol):
    """A data center, and a box with an instrument whose desktop sends a greeting. At first there is no path."""

    listener: TunnelListener
    address: Endpoint
    """The address of the listener."""
    nowhere: Endpoint
    """An address at which nothing listens."""

    def now(self) -> datetime:
        """Return the current time."""
        ...

    def make_endpoint(self, authority: EllipticCurvePrivateKey) -> TunnelEndpoint:
        """Create the data center's end of the tunnel for the session OFFER."""
        ...

    def make_tunnel(self) -> Tunnel:
        """Create the box's end of a tunnel."""
        ...

    async def open_path(self) -> None:
        """Open the path for the packets of the session through the firewall."""
        ...

    async def close_path(self) -> None:
        """Close the path."""
        ...

    def packets(self) -> int:
        """Count the packets that have left or entered the tunnel at the box."""
        ...

    async def until_sent(self) -> None:
        """Wait until the data center has sent a packet through the tunnel, which the box may have dropped."""
        ...


class Received(asyncio.Protocol):
    """Keeps the first bytes that arrive on a connection, empty if it ends before, in `first`."""

    def __init__(self) -> None:
        self.first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self.first.done():
            self.first.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.data_received(b"")


class _Ends:
    """Both ends of a tunnel on a bench, with the issued credentials."""

    def __init__(
        self, bench: TunnelBench, endpoint: TunnelEndpoint, key: SessionKey, issued: TunnelCredentials
    ) -> None:
        self.bench, self.endpoint, self.key = bench, endpoint, key
        self.tunnel = bench.make_tunnel()
        self.credentials = Credentials(OFFER.id.hex(), issued.certificate, issued.authority, issued.tls_crypt)

    async def open(self) -> None:
        await self.tunnel.open(self.bench.address, self.credentials, self.key)
        await self.endpoint.opened()

    async def greeting(self) -> bytes:
        """Return the greeting that the data center reads from the instrument's desktop."""
        received = Received()
        await self.endpoint.connect(received)
        return await received.first

    async def refusal(self, *, key: SessionKey | None = None, **changes: str) -> str:
        """Try to open the tunnel with changed credentials or another key; return the error message."""
        credentials = replace(self.credentials, **changes)
        with pytest.raises(TunnelError) as raised:
            await self.tunnel.open(self.bench.address, credentials, key or self.key)
        assert self.bench.packets() == 0
        with pytest.raises(TunnelError):  # the key has been used, or is forgotten
            (key or self.key).sign(bytes(32))
        return str(raised.value)


async def _ends(bench: TunnelBench, valid: timedelta = timedelta(hours=1)) -> _Ends:
    key, endpoint = SessionKey(), bench.make_endpoint(ENDPOINT)
    issued = await endpoint.start(key.public_key, bench.now() + valid)
    return _Ends(bench, endpoint, key, issued)


async def _of_a_stranger(ends: _Ends) -> TunnelCredentials:
    """Return credentials for the same session and key of the box from another authority, whose end was stopped."""
    endpoint = ends.bench.make_endpoint(STRANGER)
    issued = await endpoint.start(ends.key.public_key, ends.bench.now() + timedelta(hours=1))
    await endpoint.stop()
    return issued


async def _reaches_the_instrument(bench: TunnelBench) -> None:
    ends = await _ends(bench)
    await bench.open_path()
    assert bench.packets() == 0
    await ends.open()
    assert await ends.greeting() == GREETING
    await ends.tunnel.close()
    assert await ends.endpoint.ended == "the box has closed the tunnel"


async def _passes_nothing_without_the_path(bench: TunnelBench) -> None:
    ends = await _ends(bench)
    await ends.open()
    waiting = asyncio.ensure_future(ends.greeting())
    await bench.until_sent()
    assert not waiting.done()
    await bench.open_path()
    assert await waiting == GREETING  # because TCP repeats its first packet


async def _passes_nothing_after_the_path(bench: TunnelBench) -> None:
    ends = await _ends(bench)
    await bench.open_path()
    await ends.open()
    assert await ends.greeting() == GREETING
    await bench.close_path()
    waiting = asyncio.ensure_future(ends.greeting())
    await bench.until_sent()
    assert not waiting.done()
    await ends.endpoint.stop()
    with pytest.raises(OSError, match=r"."):
        await waiting


async def _key_that_is_not_expected(bench: TunnelBench) -> None:
    ends = await _ends(bench)
    foreign = await _of_a_stranger(ends)
    assert "lost" in await ends.refusal(tls_crypt=foreign.tls_crypt)
    assert bench.listener.refused == 1


async def _certificate_of_another_authority(bench: TunnelBench) -> None:
    ends = await _ends(bench)
    foreign = await _of_a_stranger(ends)
    await ends.refusal(certificate=foreign.certificate)


async def _server_of_another_authority(bench: TunnelBench) -> None:
    ends = await _ends(bench)
    foreign = await _of_a_stranger(ends)
    await ends.refusal(authority=foreign.authority)


async def _another_key(bench: TunnelBench) -> None:
    ends = await _ends(bench)
    await ends.refusal(key=SessionKey())


async def _forgotten_key(bench: TunnelBench) -> None:
    ends = await _ends(bench)
    ends.key.forget()
    assert "forgotten" in await ends.refusal()


async def _expired_certificate(bench: TunnelBench) -> None:
    ends = await _ends(bench, timedelta(seconds=-1))
    await ends.refusal()


async def _reconnection(bench: TunnelBench) -> None:
    ends = await _ends(bench)
    await ends.open()
    await ends.tunnel.close()
    again = bench.make_tunnel()
    with pytest.raises(TunnelError):
        await again.open(bench.address, ends.credentials, ends.key)
    assert bench.listener.refused == 1


async def _nothing_listens(bench: TunnelBench) -> None:
    ends = await _ends(bench)
    with pytest.raises(TunnelError, match=rf"{bench.nowhere.host}:{bench.nowhere.port} cannot be reached: "):
        await ends.tunnel.open(bench.nowhere, ends.credentials, ends.key)


async def _data_center_ends_it(bench: TunnelBench) -> None:
    ends = await _ends(bench)
    await ends.open()
    await ends.endpoint.stop()
    assert await ends.tunnel.ended


async def _stopped_before_it_is_open(bench: TunnelBench) -> None:
    ends = await _ends(bench)
    await ends.endpoint.stop()
    await ends.refusal()
    with pytest.raises(EndpointError):
        await ends.endpoint.opened()


TunnelCase = Callable[[TunnelBench], Awaitable[None]]
CASES: Final[tuple[TunnelCase, ...]] = (
    _reaches_the_instrument,
    _passes_nothing_without_the_path,
    _passes_nothing_after_the_path,
    _key_that_is_not_expected,
    _certificate_of_another_authority,
    _server_of_another_authority,
    _another_key,
    _forgotten_key,
    _expired_certificate,
    _reconnection,
    _nothing_listens,
    _data_center_ends_it,
    _stopped_before_it_is_open,
)


def case_name(case: TunnelCase) -> str:
    """Return the name of a case."""
    return getattr(case, "__name__", "").strip("_")
