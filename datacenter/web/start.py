"""Makes the staff's web application from the data center's configuration."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from starlette.types import ASGIApp

from datacenter.access.control import AccessControl
from datacenter.audit.access_log import AccessLog
from datacenter.audit.trail import AuditTrail
from datacenter.config import Config
from datacenter.evaluation.knowledge import TriggerKnowledge
from datacenter.releases.folder import ReleaseFolder
from datacenter.sessions.remote import RemoteSessions
from datacenter.sign_on.provider import Provider
from datacenter.sign_on.sign_on import SignOn
from datacenter.store.store import Store
from datacenter.web.application import make_web
from datacenter.web.routes import Run, WebServices
from datacenter.web.sessions import StaffSessions


def make_access(config: Config, store: Store) -> AccessControl:
    """Return the access control of the staff's pages, which records decisions in the store. Raises: SettingsError."""
    return AccessControl(config.access_files, AuditTrail(store).record)


def make_staff_web(
    config: Config,
    store: Store,
    trigger_knowledge: TriggerKnowledge,
    now_ms: Callable[[], int],
    readers: Executor,
    writer: Executor,
    access: AccessControl,
    remote: RemoteSessions | None = None,
    releases: ReleaseFolder | None = None,
) -> ASGIApp:
    """Return the application; `writer` is the thread that writes to the store. Raises: SettingsError; OSError."""
    assert config.staff is not None, "the pages are configured"
    log = AccessLog(AuditTrail(store).append, config.access.view_minutes * 60_000)
    oidc = config.access.oidc
    sign_on = SignOn(oidc, Provider(oidc, time.time)) if oidc else None
    services = WebServices(
        store,
        lambda: access.rules,
        StaffSessions(store, idle_ms=config.staff.idle_minutes * 60_000),
        now_ms,
        _on(readers),
        _on(writer),
        log,
        config.staff.development,
        sign_on,
        trigger_knowledge,
        remote,
        releases,
    )
    return make_web(services, [config.staff.host, *([oidc.host] if oidc else [])])


def _on(executor: Executor) -> Run:
    async def run(function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(executor, function)

    return run
