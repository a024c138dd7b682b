"""Reading a session leaks none of OpenSSL's memory: only the returned object keeps some."""

from __future__ import annotations

import ctypes
import gc
import ssl
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.support.crypto.certificates import Certificates
from wire.tls.context import client_context, server_context
from wire.tls.session import EX_INDEX_SSL_SESSION, ExCallback, SessionReader, openssl, session_of

READINGS = 20


class SessionCount:
    """Counts the sessions that OpenSSL has created since its construction and not freed."""

    def __init__(self) -> None:
        SessionReader()  # declares the functions' arguments
        self.sessions = 0
        new, free = self._callbacks = ExCallback(self._created), ExCallback(self._freed)
        self._index = openssl().CRYPTO_get_ex_new_index(EX_INDEX_SSL_SESSION, 0, None, new, None, free)

    def end(self) -> None:
        openssl().CRYPTO_free_ex_index(EX_INDEX_SSL_SESSION, self._index)

    def _created(self, *_: Any) -> None:
        self.sessions += 1

    def _freed(self, *_: Any) -> None:
        self.sessions -= 1


@pytest.fixture
def count() -> Iterator[SessionCount]:
    gc.collect()  # frees sessions of earlier tests
    count = SessionCount()
    yield count
    count.end()


def connected(certificates: Certificates) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return a client and a server in memory, after their handshake."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.SSLContext.wrap_bio  # `ClientContext.wrap_bio` needs a running event loop
    client = tls(client_context(certificates.box), to_client, to_server, server_hostname="localhost")
    server = tls(server_context(certificates.server), to_server, to_client, server_side=True)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    server.write(b"x")
    assert client.read(1) == b"x"  # and the ticket before it
    return client, server


def test_reading_a_session_leaks_no_memory(certificates: Certificates, count: SessionCount) -> None:
    client, _server = connected(certificates)
    session_of(client)
    before = count.sessions
    for _ in range(READINGS):
        session_of(client)
    assert count.sessions == before


def test_a_session_that_was_read_can_be_resumed(certificates: Certificates) -> None:
    client, _server = connected(certificates)
    reader = SessionReader()
    for session in (reader.read(client), reader.read(client)):
        assert session is not None
        assert session.id == client.session.id  # type: ignore[union-attr]
        assert session.has_ticket
        resumed = ssl.SSLContext.wrap_bio(
            client.context, ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost", session=session
        )
        assert resumed.session is not None
        assert resumed.session.id == session.id


def new_session() -> int:
    make = openssl().SSL_SESSION_new
    make.restype = ctypes.c_void_p
    return int(make())


class LosesCopies:
    """A connection as in those versions of CPython that do not return the copy and never free it."""

    @property
    def session(self) -> object:
        new_session()
        return object()


class ReturnsCopies:
    """A connection as in other versions: the copy is freed with the object that is returned."""

    class Session:
        def __init__(self) -> None:
            self.copy = new_session()

        def __del__(self) -> None:
            openssl().SSL_SESSION_free(self.copy)

    @property
    def session(self) -> object:
        return self.Session()


class MakesNoCopies:
    """A connection as in versions before 3.10."""

    session = object()


@pytest.mark.parametrize(
    ("connection", "leaks_copies"),
    [(LosesCopies(), True), (ReturnsCopies(), False), (MakesNoCopies(), None)],
)
def test_a_copy_of_a_session_is_freed_exactly_once(
    connection: object, leaks_copies: bool | None, count: SessionCount
) -> None:
    reader = SessionReader()
    for _ in range(READINGS):
        kept = reader.read(cast(ssl.SSLObject, connection))
        assert kept is not None
        assert count.sessions == isinstance(connection, ReturnsCopies)  # which `kept` still holds
        del kept
        assert count.sessions == 0
    assert reader.leaks_copies is leaks_copies
