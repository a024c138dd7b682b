"""An authentication program for squid that checks NTLM and Negotiate passwords.

squid's own `ntlm_fake_auth` checks no password, and the programs that do need a Windows domain. squid's user may not
be allowed to read this checkout, so the program is a server on loopback, `python -m sim.proxies.squid_spnego SCHEME
PASSWORDS PORT`, and squid starts `RELAY`, which connects its standard input and output with the server.

The protocol is squid's for stateful helpers (https://wiki.squid-cache.org/Features/AddonHelpers): `YR TOKEN` begins
an exchange and `KK TOKEN` continues it; the answers are `TT TOKEN` (continue), `AF …` (authenticated), `NA …`
(refused) and `BH …` (invalid request).
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final, cast

from sim.proxies.spnego import SpnegoExchange, SpnegoScheme

RELAY: Final = """\
#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/{port} || exit 1
while read -r request; do
    echo "$request" >&3
    read -r answer <&3 || exit 1
    echo "$answer"
done
"""
TOKEN_BYTES_MAX: Final = 64 * 1024
"""Maximum length of a request."""


def write_squid_login(folder: Path, scheme: str, port: int) -> str:
    """Write the relay to the server on `port` into `folder`; return the lines of squid.conf that use it."""
    relay = folder / "relay"
    relay.write_text(RELAY.format(port=port))
    relay.chmod(0o755)
    return f"auth_param {scheme} program {relay}\nauth_param {scheme} children 4 startup=0 idle=1"


class SquidHelper:
    """The server's side of one helper; squid gives it one exchange at a time."""

    def __init__(self, scheme: SpnegoScheme, passwords: Path) -> None:
        self._scheme, self._passwords = scheme, passwords
        self._exchange: SpnegoExchange | None = None

    def answer(self, request: str) -> str:
        """Return the answer to a request, both without the end of the line."""
        command, _, token = request.partition(" ")
        if command == "YR":
            self._exchange = SpnegoExchange(self._scheme, self._passwords)
        exchange = self._exchange
        if exchange is None or command not in ("YR", "KK"):
            return "BH expected YR, or KK after YR"
        has_token = "= " if self._scheme == "negotiate" else ""  # Negotiate's answers begin with a token
        try:
            answer = exchange.step(token.strip())
        except PermissionError as error:
            return f"NA {has_token}{error}".replace("\n", " ")
        if not exchange.complete:
            return f"TT {answer}"
        return f"AF {answer or '='} {exchange.user}" if has_token else f"AF {exchange.user}"


async def serve(scheme: SpnegoScheme, passwords: Path, port: int) -> None:
    """Serve relays on loopback until cancelled."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        helper = SquidHelper(scheme, passwords)
        try:
            while line := await reader.readline():
                writer.write(helper.answer(line.decode().rstrip("\n")).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass  # squid has ended
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, limit=TOKEN_BYTES_MAX)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve with the arguments of the command line."""
    scheme, passwords, port = sys.argv[1:]
    asyncio.run(serve(cast("SpnegoScheme", scheme), Path(passwords), int(port)))


if __name__ == "__main__":
    main()
