"""Server side of NTLM and Negotiate (RFC 4559) for proxies, with passwords from a file."""

from __future__ import annotations

import os
import socket
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

SpnegoScheme = Literal["ntlm", "negotiate"]

HOST_NAME: Final = "proxy"
_PASSWORDS: Final = "NTLM_USER_FILE"
"""The environment variable in which pyspnego looks for the passwords of NTLM."""
_WORKSTATION: Final = "NETBIOS_COMPUTER_NAME"
"""The environment variable in which pyspnego looks for the client's computer name."""


def write_passwords(file: Path, domain: str, user: str, password: str) -> None:
    """Write the passwords that a SpnegoExchange accepts: one user's. No field may contain a colon."""
    file.write_text(f"{domain}:{user}:{password}\n")


@contextmanager
def workstation(name: str) -> Iterator[None]:
    """Set the computer name that this process sends as a client of NTLM; it must not depend on the machine's."""
    with _variable(_WORKSTATION, name.upper()):
        yield


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    previous = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if previous is None:
            del os.environ[name]
        else:
            os.environ[name] = previous


class SpnegoExchange:
    """The authentication of one connection; without Kerberos, Negotiate transports NTLM."""

    def __init__(self, scheme: SpnegoScheme, passwords: Path) -> None:
        """`passwords` is a file of `write_passwords`."""
        import spnego  # takes 50 ms, which only labs with these schemes need

        kinds = spnego.NegotiateOptions  # in Python, never the system's GSSAPI, which may have other users
        options = kinds.use_ntlm if scheme == "ntlm" else kinds.use_negotiate
        self._passwords = passwords
        with self._environment():
            self._context: Any = spnego.server(protocol=scheme, options=options)

    def step(self, token: str) -> str:
        """Process a client's token, in Base64; return the token to answer with, or "" if there is none.

        Raises: PermissionError if the user or password is wrong, or the token is invalid.
        """
        from spnego.exceptions import SpnegoError

        try:
            with self._environment():
                answer = self._context.step(b64decode(token, validate=True))
        except (SpnegoError, ValueError) as error:
            raise PermissionError(f"the token is not accepted: {error}") from None
        return b64encode(answer or b"").decode()

    @property
    def complete(self) -> bool:
        """Whether the client is authenticated."""
        return bool(self._context.complete)

    @property
    def user(self) -> str:
        """The authenticated user."""
        return str(self._context.client_principal or "")

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """Set the passwords for pyspnego, and a constant host name, so that runs do not depend on the machine's."""
        host_name = socket.gethostname
        socket.gethostname = lambda: HOST_NAME
        try:
            with _variable(_PASSWORDS, str(self._passwords)):
                yield
        finally:
            socket.gethostname = host_name
