"""Logs clients that are refused before their data is accepted, at a limited rate, because they retry indefinitely."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from http import HTTPStatus
from typing import Final

from datacenter.front_ends import box_of
from wire.http.connection import Handler, Request, Response
from wire.process.ratelimit import TokenBucket
from wire.tls.peer import PeerProblem

REFUSALS_BURST: Final = 5
REFUSALS_PER_SECOND: Final = 1 / 600
"""Limit of the log records about one refused client."""
REFUSED_NAMES_MAX: Final = 10_000
"""Maximum number of separate limits, each for one client and problem; further clients share one for each problem."""
NAME_LENGTH_MAX: Final = 64
"""Maximum length of a client's name in the log. A front end forwards any name."""
_NOT_AUTHORIZED: Final = "it is not authorized, is on the deny-list, or has an expired certificate (403)"
_log: Final = logging.getLogger(__name__)


class RefusedClients:
    """Logs refused clients; each combination of client and problem has a separate rate limit."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, str], TokenBucket] = {}

    def certificate(self, problem: PeerProblem, name: str) -> None:
        """Log a client whose certificate is refused after the handshake."""
        self._log(name, f"its certificate: {problem.value}")

    def handshake(self, address: str, reason: str) -> None:
        """Log a client whose TLS handshake failed, for example without a certificate of an accepted authority."""
        self._log(address, f"TLS: {reason}")

    def logged(self, handler: Handler, front_ends: Collection[str]) -> Handler:
        """Return a handler that also logs the boxes whose requests get status 403."""

        async def answer(request: Request) -> Response:
            response = await handler(request)
            if response.status == HTTPStatus.FORBIDDEN:
                self._log(box_of(request, front_ends), _NOT_AUTHORIZED)
            return response

        return answer

    def _log(self, name: str, problem: str) -> None:
        name = name[:NAME_LENGTH_MAX]
        key = problem, name if len(self._rates) < REFUSED_NAMES_MAX else ""
        rate = self._rates.setdefault(key, TokenBucket(REFUSALS_PER_SECOND, REFUSALS_BURST))
        if not rate.take(1, time.monotonic()):
            _log.warning("%s is refused: %s", name or "an unnamed client", problem)
