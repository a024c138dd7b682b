"""The data center's program logs bounded resources near their limits, and refused clients at a limited rate."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import cast

import pytest

from datacenter import refused
from datacenter.bounds import database_file, datacenter_bounds, watch_bounds
from datacenter.refused import REFUSALS_BURST, RefusedClients
from datacenter.store.queue import StoreQueue
from tests.support.eventually import eventually
from tests.support.runner.logged import logged
from wire.http.connection import Server
from wire.process.bounds import Bound
from wire.tls.peer import PeerProblem


class Listener:
    """A server of which only the number of connections matters."""

    connections = 0
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def connection_usage(self) -> tuple[int, int]:
        return self.connections, 100


def test_connections_near_their_limit_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    listener = Listener()
    bounds = datacenter_bounds(lambda: cast(Server, listener), StoreQueue(None, lambda _: []))
    messages = []
    for listener.connections in (79, 80, 99, 70, 69):
        caplog.clear()
        bounds.check()
        messages.append(logged(caplog, "datacenter"))
    near, below = (
        "connections: 80 of 100 are in use, 80 %",
        "connections: below the limit again, 69 % of 100 are in use",
    )
    assert messages == [[], [near], [], [], [below]]
    names = {"connections", "descriptors", "memory", "store-queue", "tls-sessions"}
    assert {level.name for level in bounds.levels} == names


@pytest.mark.parametrize("amount", [74, 75])
def test_the_file_system_of_the_database_is_logged_at_75_percent(
    amount: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("datacenter.bounds.used_and_total", lambda _folder: (amount, 100))
    bounds = datacenter_bounds(lambda: cast(Server, Listener()), StoreQueue(None, lambda _: []))

    async def watch() -> None:
        watching = asyncio.create_task(watch_bounds(bounds, f"sqlite:///{tmp_path}/reports.db"))
        await eventually(lambda: any(level.name == "file-system" for level in bounds.levels), None)
        watching.cancel()

    asyncio.run(watch())
    assert len(logged(caplog, "datacenter")) == (amount == 75)


@pytest.mark.parametrize("amount", [79, 80])
def test_other_bounds_are_logged_at_80_percent(amount: int, caplog: pytest.LogCaptureFixture) -> None:
    bounds = datacenter_bounds(lambda: cast(Server, Listener()), StoreQueue(None, lambda _: []))
    bounds.add(Bound("another", lambda: (amount, 100)))
    bounds.check()
    assert len(logged(caplog, "datacenter")) == (amount == 80)


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:////var/lib/rap/reports.db", Path("/var/lib/rap/reports.db")),
        ("sqlite:///reports.db", Path.cwd() / "reports.db"),
        ("sqlite://", None),
        ("postgresql+psycopg://rap@db/rap", None),
    ],
)
def test_only_a_database_in_a_file_has_a_file_system(url: str, file: Path | None) -> None:
    assert database_file(url) == file


def test_a_refused_box_that_retries_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refused, "REFUSED_NAMES_MAX", 3)
    log = RefusedClients().certificate
    for _ in range(1000):
        log(PeerProblem.REVOKED, "RAP-0001")
    assert len(logged(caplog, "datacenter")) == REFUSALS_BURST
    log(PeerProblem.REVOKED, "RAP-0002")
    assert logged(caplog, "datacenter")[-1] == "RAP-0002 is refused: its certificate: it is revoked"
    for number in range(1000):
        log(PeerProblem.REVOKED, f"RAP-{number}")
    assert len(logged(caplog, "datacenter")) <= 5 * REFUSALS_BURST
