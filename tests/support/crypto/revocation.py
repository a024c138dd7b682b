"""A server that checks its clients' certificates against a revocation list, for tests of revocation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.eventually import WAIT_SECONDS_MAX
from wire.http.connection import Request, Response, serve
from wire.tls.context import Identity, server_context
from wire.tls.peer import ClientCheck, PeerProblem
from wire.tls.revocation import RevocationList


@dataclass(kw_only=True)
class CheckingServer:
    """The server's identity, and its revocation list in `folder`; `refused` collects the refused clients."""

    folder: Path
    server: Identity
    refused: list[tuple[PeerProblem, str]] = field(default_factory=list)

    @property
    def crl(self) -> Path:
        return self.folder / "vendor.crl"

    def publish(self, *parts: bytes) -> None:
        """Replace the revocation list atomically by these parts."""
        draft = self.folder / "draft"
        draft.write_bytes(b"".join(parts))
        draft.replace(self.crl)

    def revocations(self) -> RevocationList:
        return RevocationList(self.crl, self.server.authorities)

    def run(
        self, client: Callable[[int], Awaitable[object]], revocations: RevocationList | None = None
    ) -> None:
        """Run a client, which is called with the server's TCP port, against a server that checks certificates."""

        async def answer(request: Request) -> Response:
            return Response(200, request.peer.name.encode())

        async def exchange() -> None:
            check = ClientCheck(revocations, lambda problem, name: self.refused.append((problem, name)))
            server = await serve(
                answer,
                "127.0.0.1",
                0,
                tls=server_context(self.server),
                body_bytes_max=10,
                now=lambda: 0.0,
                check=check,
            )
            await asyncio.wait_for(client(server.port), WAIT_SECONDS_MAX)
            await server.close()

        asyncio.run(exchange())
