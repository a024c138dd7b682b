"""The TLS layer of the simulated loop delivers data and errors as asyncio's does."""

from __future__ import annotations

import asyncio
import ssl
from random import Random

import pytest

from sim.net.tls import RECORD_BYTES_MAX
from tests.support.sim.network import Pair, Recorder
from wire.pki.hierarchy import Authority, make_key
from wire.tls.context import Identity, client_context, server_context


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    key = make_key()
    root = Authority.make("root", key)
    return root.subordinate("issuing", key).issue(
        tmp_path_factory.mktemp("pki"), "b", hosts=("b",), trusts=root, key=key
    )


class Failing(Recorder):
    """Raises an error when it receives data."""

    def data_received(self, data: bytes) -> None:
        raise ValueError("cannot read this")


class TlsPair(Pair):
    """Host "a" is the client of a TLS server on "b"."""

    def __init__(self, identity: Identity, server: Recorder) -> None:
        super().__init__()
        self.server, self.client = server, Recorder()
        self.run(self.b, self._listen(server_context(identity)))
        self.run(self.a, self._connect(client_context(identity)))

    async def _listen(self, tls: ssl.SSLContext) -> None:
        await asyncio.get_running_loop().create_server(lambda: self.server, "b", 443, ssl=tls)

    async def _connect(self, tls: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self.client, "b", 443, ssl=tls, server_hostname="b")


@pytest.mark.parametrize("size", [1, RECORD_BYTES_MAX - 1, RECORD_BYTES_MAX, RECORD_BYTES_MAX + 1, 200_000])
def test_messages_of_any_length_arrive_complete_and_in_order(identity: Identity, size: int) -> None:
    pair, data = TlsPair(identity, Recorder(echo=True)), Random(size).randbytes(size)
    for part in (data, b"", data, data[:1]):
        pair.client.transport.write(part)
    pair.loop.run_for(10 * 10**9)
    assert pair.client.received == data + data + data[:1]


def test_writelines_sends_its_pieces_as_one_message(identity: Identity) -> None:
    pair, pieces = TlsPair(identity, Recorder(echo=True)), [b"one", b"", b"x" * RECORD_BYTES_MAX, b"three"]
    pair.client.transport.writelines([])
    pair.client.transport.writelines(pieces)
    pair.loop.run_for(10**9)
    assert pair.client.received == b"".join(pieces)


def test_a_paused_program_receives_nothing_until_it_resumes_reading(identity: Identity) -> None:
    pair = TlsPair(identity, Recorder())
    pair.client.transport.write(b"first")
    pair.loop.run_for(10**9)
    pair.server.transport.pause_reading()
    pair.client.transport.write(b"second")
    pair.loop.run_for(10**9)
    assert pair.server.received == b"first"
    pair.server.transport.resume_reading()
    pair.loop.run_for(10**9)
    assert pair.server.received == b"firstsecond"


def test_nothing_is_sent_after_closing(identity: Identity) -> None:
    pair = TlsPair(identity, Recorder())
    pair.client.transport.write(b"last")
    pair.client.transport.close()
    pair.client.transport.write(b"too late")
    pair.loop.run_for(10**9)
    assert pair.server.received == b"last"
    assert pair.server.lost == pair.client.lost == [None]


def test_an_exception_in_the_protocol_ends_the_connection(identity: Identity) -> None:
    pair = TlsPair(identity, Failing())
    pair.client.transport.write(b"hello")
    pair.loop.run_for(10**9)
    assert [type(error) for error in pair.server.lost] == [ValueError]
    assert pair.client.lost
