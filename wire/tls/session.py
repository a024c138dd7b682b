"""Keeps the TLS sessions of lost connections, and reads sessions without the memory leak of some CPython versions.

In CPython 3.10 to 3.12.7 and 3.13.0, `SSLObject.session` makes a copy of the session and leaks it
(github.com/python/cpython/issues/116810): about 5 KB of OpenSSL's memory per resumed connection. Distributions
backport the fix, so that the version number does not show whether there is a leak. Reading one session shows it: a
copy that outlives the returned object is leaked.

The leaked copy is found through OpenSSL's application data interface (CRYPTO_get_ex_new_index(3)), whose callbacks
are called for each session that is created or freed.
"""

from __future__ import annotations

import _ssl
import atexit
import ctypes
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final

EX_INDEX_SSL_SESSION: Final = 2  # CRYPTOEX_INDEX_SSL_SESSION
ExCallback: Final = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p
)
"""CRYPTO_EX_new and CRYPTO_EX_free: the first argument is the object that is created or freed."""


def session_of(connection: ssl.SSLObject) -> ssl.SSLSession | None:
    """Return `connection.session`, and free a copy that the interpreter leaks."""
    return _reader().read(connection)


def keep_session(connection: ssl.SSLObject) -> None:
    """Let the session of a server's lost connection be resumed; call it when the connection has ended.

    OpenSSL removes the session of a connection that is freed without a close_notify, which is when the garbage
    collector runs. RFC 5246, 7.2.1, no longer requires it. After a fatal alert the session stays removed.
    """
    with suppress(ssl.SSLError):
        connection.unwrap()  # marks the connection as shut down; nothing is sent, because the transport has ended


@cache
def openssl() -> ctypes.CDLL:
    """Return the OpenSSL library that the ssl module uses."""
    return ctypes.CDLL(getattr(_ssl, "__file__", None))  # None: Python is linked statically


class SessionReader:
    """Reads sessions. `leaks_copies`: whether this interpreter leaks a copy at each read; None until it is known."""

    def __init__(self) -> None:
        self.leaks_copies: bool | None = None
        self._copies: set[int] = set()
        """Addresses of sessions created during the current read and not freed since."""
        self._reading_thread = 0
        # referenced here because OpenSSL stores their addresses
        self._callbacks = ExCallback(self._note_created), ExCallback(self._note_freed)
        library = openssl()
        library.SSL_SESSION_free.argtypes = [ctypes.c_void_p]
        library.SSL_SESSION_free.restype = None
        library.CRYPTO_get_ex_new_index.argtypes = [
            *(ctypes.c_int, ctypes.c_long, ctypes.c_void_p),
            *(ExCallback, ctypes.c_void_p, ExCallback),
        ]
        created, freed = self._callbacks
        self._index = library.CRYPTO_get_ex_new_index(EX_INDEX_SSL_SESSION, 0, None, created, None, freed)
        # runs before the interpreter's end; also keeps the callbacks referenced until then
        atexit.register(self.close)

    def close(self) -> None:
        """Unregister the callbacks from OpenSSL, which may free sessions after the interpreter's end."""
        openssl().CRYPTO_free_ex_index(EX_INDEX_SSL_SESSION, self._index)

    def read(self, connection: ssl.SSLObject) -> ssl.SSLSession | None:
        """See `session_of`."""
        if self.leaks_copies is None:
            self._detect_leak(connection)
        if not self.leaks_copies:
            return connection.session
        with self._observed():
            session = connection.session
        self._free_copies()
        return session

    def _detect_leak(self, connection: ssl.SSLObject) -> None:
        """Read a session and drop it; a copy that OpenSSL has not freed then was leaked by the interpreter."""
        with self._observed():
            session = connection.session
            was_copied = bool(self._copies)
            del session
        if was_copied:
            self.leaks_copies = bool(self._copies)
        self._free_copies()

    @contextmanager
    def _observed(self) -> Iterator[None]:
        self._copies.clear()
        self._reading_thread = threading.get_ident()
        try:
            yield
        finally:
            self._reading_thread = 0

    def _free_copies(self) -> None:
        for copy in self._copies:
            openssl().SSL_SESSION_free(copy)
        self._copies.clear()

    def _note_created(self, session: int, *_: Any) -> None:
        if self._reading_thread == threading.get_ident():
            self._copies.add(session)

    def _note_freed(self, session: int, *_: Any) -> None:
        if self._reading_thread == threading.get_ident():
            self._copies.discard(session)


_reader: Final = cache(SessionReader)
