"""Makes the staff's web application from the data center's configuration."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import Executor

from starlette.responses import Response
from starlette.types import ASGIApp

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.directory import StaffDirectory
from datacenter.access.policyfile import read_policies
from datacenter.config import Staff
from datacenter.store.store import Store
from datacenter.web.application import log_refusal, make_web
from datacenter.web.routes import Run, WebServices
from datacenter.web.sessions import KEY_BYTES, SessionSigner


def make_staff_web(
    settings: Staff,
    directory: StaffDirectory,
    store: Store,
    now_ms: Callable[[], int],
    readers: Executor,
    writer: Executor,
) -> ASGIApp:
    """Return the application; `writer` is the thread that writes to the store.

    The key of the sessions is made here, so that they end with the program. Raises: SettingsError.
    """
    services = WebServices(
        store,
        CompiledPolicies(read_policies()),
        directory,
        SessionSigner(secrets.token_bytes(KEY_BYTES)),
        now_ms,
        _on(readers),
        _on(writer),
        log_refusal,
        settings.development,
    )
    return make_web(services, [settings.host])


def _on(executor: Executor) -> Run:
    async def run(function: Callable[[], Response]) -> Response:
        return await asyncio.get_running_loop().run_in_executor(executor, function)

    return run
