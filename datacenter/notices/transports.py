"""Sends messages to targets: through Apprise, or to an Alertmanager. A failure is an outcome, not an exception."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import httpx
import msgspec

from datacenter.notices import apprise_program
from datacenter.notices.notice import Notice, body_of, title_of
from datacenter.notices.outbox import AttemptOutcome, AttemptResult
from datacenter.notices.targets import NoticeTarget

ATTEMPT_SECONDS_MAX: Final = 30.0
FIRING_MS: Final = 7 * 86_400_000
"""Time without an update after which an Alertmanager resolves an alert."""
API_PATH: Final = "/api/v2/alerts"
_NOT_REPEATED: Final = range(400, 500)
_BUSY: Final = (408, 429)


class Transport(Protocol):
    """Sends messages to targets of one kind."""

    async def send(self, target: NoticeTarget, notices: Sequence[Notice], now_ms: int) -> AttemptOutcome:
        """Send the notices in one message."""
        ...


class AppriseTransport:
    """Runs a program for each message, and ends it at the time limit."""

    async def send(self, target: NoticeTarget, notices: Sequence[Notice], now_ms: int) -> AttemptOutcome:  # noqa: ARG002
        task = apprise_program.NoticeTask(target.apprise, title_of(notices), body_of(notices), target.proxy)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            apprise_program.__name__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS_MAX):
                await process.communicate(msgspec.json.encode(task))
        except TimeoutError:
            return AttemptOutcome(AttemptResult.UNCERTAIN, f"no response within {ATTEMPT_SECONDS_MAX:g} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        match process.returncode:
            case 0:
                return AttemptOutcome(AttemptResult.SENT)
            case 1:
                return AttemptOutcome(
                    AttemptResult.FAILED, "Apprise could not send it: check the URL and the service"
                )
        return AttemptOutcome(AttemptResult.UNCERTAIN, f"Apprise ended with status {process.returncode}")


class AlertmanagerTransport:
    """Posts to the API of an Alertmanager, version 2."""

    async def send(self, target: NoticeTarget, notices: Sequence[Notice], now_ms: int) -> AttemptOutcome:
        alerts = [_alert(notice, now_ms) for notice in notices]
        proxy = target.proxy or None
        try:
            async with (
                asyncio.timeout(ATTEMPT_SECONDS_MAX),
                httpx.AsyncClient(proxy=proxy, trust_env=False, timeout=ATTEMPT_SECONDS_MAX) as client,
            ):
                response = await client.post(target.alertmanager.rstrip("/") + API_PATH, json=alerts)
        except TimeoutError:
            return AttemptOutcome(AttemptResult.UNCERTAIN, f"no response within {ATTEMPT_SECONDS_MAX:g} s")
        except httpx.HTTPError as error:
            return AttemptOutcome(AttemptResult.FAILED, type(error).__name__)
        if response.is_success:
            return AttemptOutcome(AttemptResult.SENT)
        problem = f"HTTP status {response.status_code}"
        refused = response.status_code in _NOT_REPEATED and response.status_code not in _BUSY
        return AttemptOutcome(AttemptResult.REFUSED if refused else AttemptResult.FAILED, problem)


class TransportOfTarget:
    """The transport that each target needs."""

    def __init__(self) -> None:
        self._apprise, self._alertmanager = AppriseTransport(), AlertmanagerTransport()

    async def send(self, target: NoticeTarget, notices: Sequence[Notice], now_ms: int) -> AttemptOutcome:
        transport: Transport = self._alertmanager if target.alertmanager else self._apprise
        return await transport.send(target, notices, now_ms)


def _alert(notice: Notice, now_ms: int) -> dict[str, Any]:
    """Return a postableAlert of the API. Equal labels are the same alert, so that a repetition changes nothing."""
    labels = {
        "alertname": notice.trigger,
        "alert": notice.alert,
        "severity": notice.severity,
        "box": notice.box,
        "instrument": notice.instrument,
        "model": notice.model,
        "component": notice.component,
        "site": notice.site,
        "region": notice.region,
    }
    annotations = {
        "summary": notice.text,
        "evidence": ", ".join(notice.terms),
        "advice": notice.advice,
        "parts": ", ".join(notice.parts),
    }
    ends_at_ms = now_ms + FIRING_MS if notice.ended_at_ms is None else min(notice.ended_at_ms, now_ms)
    alert: dict[str, Any] = {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {name: value for name, value in annotations.items() if value},
        "startsAt": _rfc3339(min(notice.began_at_ms, ends_at_ms)),
        "endsAt": _rfc3339(ends_at_ms),
    }
    return alert | ({"generatorURL": notice.link} if notice.link else {})


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
