"""Messages reach an HTTP service, directly and through a proxy, and a real Alertmanager."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from datacenter.notices import transports
from datacenter.notices.notice import Notice
from datacenter.notices.outbox import AttemptOutcome, AttemptResult
from datacenter.notices.targets import NoticeTarget
from datacenter.notices.transports import FIRING_MS, TransportOfTarget
from tests.support.eventually import poll_until

NOW_MS = 1_790_000_000_000
NOTICE = Notice(
    alert="0123456789abcdef",
    kind="raised",
    trigger="lamp",
    severity="warning",
    box="RAP-0001",
    instrument="CHEM-0001",
    model="chemistry-analyzer",
    component="lamp",
    site="s1",
    site_name="Main laboratory",
    region="north",
    text="The lamp will fail soon",
    advice="Replace it",
    parts=("Halogen lamp",),
    terms=("ewma(lamp-intensity-pct, 64) = 69.5",),
    began_at_ms=NOW_MS - 1000,
    ended_at_ms=None,
    link="https://dc/alerts/0123456789abcdef",
)
BODY = """Raised: The lamp will fail soon
Severity: warning
Instrument: CHEM-0001 (chemistry-analyzer)
Site: Main laboratory (s1)
Since: 2026-09-21T14:13:19Z
Evidence: ewma(lamp-intensity-pct, 64) = 69.5
Advice: Replace it
Parts: Halogen lamp
https://dc/alerts/0123456789abcdef
Notice 0123456789abcdef:raised"""


class Service:
    """An HTTP/1.1 server that records each request, and responds with `status`, or not at all if it is 0."""

    def __init__(self, status: int = 200) -> None:
        self.status, self.requests = status, list[tuple[str, bytes]]()

    async def serve(self, use: Callable[[int], Awaitable[AttemptOutcome]]) -> AttemptOutcome:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        async with server:
            return await use(server.sockets[0].getsockname()[1])

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        self.requests.append((head.split("\r\n")[0], await reader.readexactly(size)))
        if self.status:
            writer.write(
                f"HTTP/1.1 {self.status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
            )
            await writer.drain()
            writer.close()
        else:
            await reader.read()


def send(service: Service, target: Callable[[int], NoticeTarget], *notices: Notice) -> AttemptOutcome:
    async def use(port: int) -> AttemptOutcome:
        return await TransportOfTarget().send(target(port), notices or [NOTICE], NOW_MS)

    return asyncio.run(service.serve(use))


def by_apprise(port: int) -> NoticeTarget:
    return NoticeTarget(name="a", apprise=f"json://127.0.0.1:{port}/in")


def to_alertmanager(port: int) -> NoticeTarget:
    return NoticeTarget(name="a", alertmanager=f"http://127.0.0.1:{port}/")


def test_apprise_sends_the_text() -> None:
    service = Service()
    assert send(service, by_apprise) == AttemptOutcome(AttemptResult.SENT)
    ((line, body),) = service.requests
    assert line == "post /in http/1.1"
    message = json.loads(body)
    assert message["title"] == "[warning raised] CHEM-0001: The lamp will fail soon"
    assert message["message"] == BODY


def test_several_notices_are_one_message() -> None:
    service = Service()
    resolved = NOTICE._replace(alert="b", kind="resolved", ended_at_ms=NOW_MS)
    send(service, by_apprise, NOTICE, resolved)
    ((_, body),) = service.requests
    message = json.loads(body)
    assert message["title"] == "2 alerts: 1 raised, 1 resolved"
    assert message["message"].count("\nNotice ") == 2
    assert "Until: 2026-09-21T14:13:20Z" in message["message"]


@pytest.mark.parametrize("status", [400, 503])
def test_a_failed_attempt_of_apprise_is_repeated(status: int) -> None:
    assert send(Service(status), by_apprise).result is AttemptResult.FAILED


def test_apprise_without_an_answer_is_uncertain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "ATTEMPT_SECONDS_MAX", 3.0)
    service = Service(0)
    assert send(service, by_apprise).result is AttemptResult.UNCERTAIN
    assert len(service.requests) <= 1


@pytest.mark.parametrize("make", [by_apprise, to_alertmanager])
def test_a_proxy_is_used(make: Callable[[int], NoticeTarget]) -> None:
    service = Service()

    def target(port: int) -> NoticeTarget:
        direct = make(1)
        fields = {name: getattr(direct, name) for name in ("name", "apprise", "alertmanager")}
        return NoticeTarget(**fields, proxy=f"http://127.0.0.1:{port}")

    assert send(service, target).result is AttemptResult.SENT
    ((line, _),) = service.requests
    assert line.startswith("post http://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, AttemptResult.SENT),
        (400, AttemptResult.REFUSED),
        (401, AttemptResult.REFUSED),
        (429, AttemptResult.FAILED),
        (500, AttemptResult.FAILED),
    ],
)
def test_the_status_of_an_alertmanager_decides(status: int, result: AttemptResult) -> None:
    assert send(Service(status), to_alertmanager).result is result


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("prometheus-alertmanager")
    assert program, "needs prometheus-alertmanager: run `make setup-kernel` as root"
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "am.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    process = subprocess.Popen(
        [
            program,
            f"--config.file={tmp_path / 'am.yml'}",
            f"--storage.path={tmp_path}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        poll_until(lambda: _is_ready(f"http://{address}"))
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).is_success
    except httpx.HTTPError:
        return False


def test_an_alertmanager_has_each_alert_once_until_it_is_resolved(alertmanager: str) -> None:
    target, transport = NoticeTarget(name="am", alertmanager=alertmanager), TransportOfTarget()
    now_ms = _now_ms(alertmanager)
    notice = NOTICE._replace(began_at_ms=now_ms - 60_000)
    other = notice._replace(alert="other", instrument="")

    def alerts() -> list[dict[str, object]]:
        return list(httpx.get(f"{alertmanager}/api/v2/alerts", trust_env=False).json())

    for notices in ([notice, other], [notice], [notice]):
        assert asyncio.run(transport.send(target, notices, now_ms)).result is AttemptResult.SENT
    poll_until(lambda: len(alerts()) == 2)
    (alert,) = (one for one in alerts() if one["labels"]["alert"] == notice.alert)  # type: ignore[index]
    assert alert["labels"] == {
        "alertname": "lamp",
        "alert": notice.alert,
        "severity": "warning",
        "box": "RAP-0001",
        "instrument": "CHEM-0001",
        "model": "chemistry-analyzer",
        "component": "lamp",
        "site": "s1",
        "region": "north",
    }
    assert alert["annotations"] == {
        "summary": notice.text,
        "evidence": notice.terms[0],
        "advice": "Replace it",
        "parts": "Halogen lamp",
    }
    assert alert["generatorURL"] == notice.link
    assert FIRING_MS > 0 and alert["endsAt"] > alert["startsAt"]  # type: ignore[operator]
    resolved = notice._replace(kind="resolved", ended_at_ms=now_ms - 1000)
    assert asyncio.run(transport.send(target, [resolved], now_ms)).result is AttemptResult.SENT
    poll_until(lambda: len(alerts()) == 1)


def _now_ms(alertmanager: str) -> int:
    from email.utils import parsedate_to_datetime

    date = httpx.get(f"{alertmanager}/-/ready", trust_env=False).headers["date"]
    return int(parsedate_to_datetime(date).timestamp() * 1000)
