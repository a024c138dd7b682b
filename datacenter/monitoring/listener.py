"""The listener for monitoring: `GET /metrics`, `GET /health/live`, `GET /health/ready`.

It has no sign-in and no TLS, and listens only on the configured address. `Host` must be an IP address, `localhost` or
a configured name, so that a page of another site whose name is made to resolve to this server (DNS rebinding) cannot
read anything.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection
from http import HTTPStatus
from typing import Final

import msgspec
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

from datacenter.monitoring.figures import Figures
from datacenter.monitoring.probe import CachedProbe, NoAnswerError
from datacenter.store.errors import StoreError
from wire.http.connection import Handler, Request, Response

METRICS: Final = "/metrics"
LIVE: Final = "/health/live"
READY: Final = "/health/ready"
_log: Final = logging.getLogger(__name__)


def make_monitoring(
    registry: CollectorRegistry,
    figures: CachedProbe[Figures],
    problem: CachedProbe[str],
    names: Collection[str] = (),
) -> Handler:
    """Return the handler. `registry` shows the latest figures; `names` are allowed in `Host`."""

    async def answer(request: Request) -> Response:
        if not is_host(request.headers.get("host", ""), names):
            return _text(HTTPStatus.MISDIRECTED_REQUEST, "unknown host name; add it to monitoring.names\n")
        path = request.target.partition("?")[0]
        if path not in (METRICS, LIVE, READY):
            return _text(HTTPStatus.NOT_FOUND, f"unknown path; give {METRICS}, {LIVE} or {READY}\n")
        if request.method != "GET":
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": "GET"})
        if path == LIVE:
            return _health("")
        if path == READY:
            return _health(await _problem(problem))
        await _read(figures)
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(HTTPStatus.OK, encode(registry), {"content-type": kind, "cache-control": "no-store"})

    return answer


async def _problem(problem: CachedProbe[str]) -> str:
    """Return why the data center is not ready; the reason of a database error is only logged."""
    try:
        return await problem.result()
    except NoAnswerError as error:
        return str(error)
    except StoreError as error:
        _log.warning("not ready: %s: %s", error, error.__cause__)
        return str(error)


async def _read(figures: CachedProbe[Figures]) -> None:
    try:
        await figures.result()
    except (NoAnswerError, StoreError) as error:
        _log.warning("the metrics of the database are missing: %s", error)


def is_host(host: str, names: Collection[str]) -> bool:
    """Return whether the `Host` header is an IP address, `localhost`, one of the names, or missing (HTTP/1.0)."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name in ("", "localhost") or name in names:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _health(problem: str) -> Response:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
    body = {"status": "fail", "problem": problem} if problem else {"status": "ok"}
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return Response(status, msgspec.json.encode(body), headers)


def _text(status: HTTPStatus, text: str) -> Response:
    return Response(status, text.encode(), {"content-type": "text/plain; charset=utf-8"})
