"""Boxes get releases and orders from the ingest endpoint, also when the release folder is changed or damaged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from datacenter.ingest import PATH as BATCHES_PATH
from datacenter.ingest import make_ingest
from datacenter.releases.folder import ReleaseFolder
from datacenter.releases.plan import Restart, RolloutPlan
from datacenter.releases.service import ReleaseService
from datacenter.store.queue import StoreQueue
from datacenter.store.store import Store
from imaging.release.repository import ReleaseRepository, RoleKeyFiles
from tests.support.datacenter.rollouts import SimulatedFleet
from tests.support.datacenter.store.batches import alert, encoded
from tests.support.imaging.releases import NOW, released
from wire.compression import Compressor
from wire.files import RANGE_BYTES_MAX, RangeRequest
from wire.http.connection import Peer, Request, Response
from wire.messages import BatchReply, UpdateStep, decode, encode
from wire.release.messages import NO_ORDER, PATH, MetadataRange, UpdateOrder, UpdateState
from wire.release.metadata import MetadataError, TrustedMetadata

BOX = "RAP-0001"
NOW_S = NOW.timestamp()
DELTA = bytes(range(256)) * 300
HOUR_MS = 3_600_000


def add(
    repository: ReleaseRepository, keys: RoleKeyFiles, number: int, name: str = "", **custom: object
) -> str:
    """Add a file of 76,800 bytes to the repository as release `number`; return its SHA-256 hash."""
    file = repository.folder.parent / (name or f"delta-{number}")
    file.write_bytes(number.to_bytes(2, "big") + DELTA[2:])
    about: dict[str, Any] = {"release": f"1.{number}.0", "number": number, **custom}
    repository.add(file, keys, NOW, about)
    return sha256(file.read_bytes()).hexdigest()


class Served:
    """The ingest endpoint of a data center that serves a release folder."""

    def __init__(self, folder: Path, store: Store, executor: ThreadPoolExecutor) -> None:
        self.fleet = SimulatedFleet(store, ReleaseFolder(folder).current, now_ms=round(NOW_S * 1000))
        self.service = ReleaseService(
            ReleaseFolder(folder), (BOX, "RAP-0002"), store, executor, lambda: self.fleet.now_ms
        )
        queue = StoreQueue(executor, store.ingest_all)
        self.ingest = make_ingest(lambda: self.fleet.now_ms, queue, releases=self.service)
        self.records = 0

    async def ask(self, method: str, target: str, body: bytes = b"", box: str = BOX) -> Response:
        return await self.ingest(Request(method, target, {}, body, Peer(box, "", lambda: None)))

    async def order(self, state: UpdateState = UpdateState(1)) -> UpdateOrder:  # noqa: B008 - never changed
        response = await self.ask("POST", PATH, encode(state))
        assert response.status == HTTPStatus.OK, response.body
        return decode(UpdateOrder, response.body)

    async def send(self, *steps: UpdateStep) -> BatchReply:
        self.records += 1
        first = self.records
        self.records += max(0, len(steps) - 1)
        data = (
            encoded(*steps, first=first, instrument="", run=0)
            if steps
            else encoded(alert(first), first=first)
        )
        response = await self.ask("POST", BATCHES_PATH, Compressor().compress(data))
        assert response.status == HTTPStatus.OK, response.body
        return decode(BatchReply, response.body)

    async def metadata(self, file: str) -> bytes:
        content = b""
        while True:
            response = await self.ask("GET", MetadataRange(file, len(content), 700).target)
            assert response.status == HTTPStatus.OK, response.body
            content += response.body
            if len(response.body) < 700:
                return content


def serve(folder: Path, use: Callable[[Served], Any]) -> None:
    """Run a coroutine with a data center whose release folder is `folder`/releases."""

    async def run(store: Store) -> None:
        with ThreadPoolExecutor(1) as executor:
            served = Served(folder / "releases", store, executor)
            await served.service.advance()
            await use(served)

    with closing(Store(f"sqlite:///{folder / 'store.db'}")) as store:
        store.authorize([BOX, "RAP-0002"], 0)
        asyncio.run(run(store))


def test_a_box_gets_its_order_the_metadata_and_the_delta(tmp_path: Path) -> None:
    repository, keys = released(tmp_path)
    digest = add(repository, keys, 2)

    async def use(served: Served) -> None:
        assert await served.order() == NO_ORDER
        assert not (await served.send()).updates
        number = served.fleet.start(
            RolloutPlan(release=2, waves=(100,), observe_hours=0, may_fetch_slot=True)
        )
        await served.service.advance()
        assert (await served.send()).updates
        order = await served.order()
        assert (order.release, order.kind, order.may_fetch_slot) == (2, "system", True)
        assert order.restart_times == ()
        assert (order.metadata.root, order.metadata.targets) == (1, 3), "of two files that were added"

        trusted = TrustedMetadata(await served.metadata("1.root.json"), NOW_S)
        trusted.update_timestamp(await served.metadata("timestamp.json"))
        trusted.update_snapshot(await served.metadata("snapshot.json"))
        trusted.update_targets(await served.metadata("targets.json"))
        target = trusted.targets()["delta-2"]
        assert (target.sha256, target.custom["number"]) == (digest, 2)
        delta = b""
        while len(delta) < target.length:
            response = await served.ask("GET", RangeRequest(digest, len(delta), RANGE_BYTES_MAX).target)
            delta += response.body
        target.check(delta)

        assert (await served.order(UpdateState(1, order=order.order))) == order
        await served.service.advance()
        assert not (await served.send()).updates, "the box follows its order"
        await served.send(
            UpdateStep(5, order.order, 2, "accepted"), UpdateStep(6, order.order, 2, "committed")
        )
        assert served.fleet.counts(number) == {"committed": 1, "ordered": 1}
        await served.service.advance()
        assert (await served.send()).updates
        assert await served.order(UpdateState(2)) == NO_ORDER
        await served.service.advance()
        assert not (await served.send()).updates

    serve(tmp_path, use)


def test_an_order_has_the_times_to_restart_of_the_boxs_site(tmp_path: Path) -> None:
    add(*released(tmp_path), 2)

    async def use(served: Served) -> None:
        served.fleet.add_site("tokyo", "JP", "asia", "Asia/Tokyo")
        served.fleet.place(BOX, "tokyo")
        served.fleet.start(
            RolloutPlan(release=2, waves=(100,), restart=Restart(begins="23:00", ends="01:00"))
        )
        await served.service.advance()
        order = await served.order()
        assert [(begin % 86_400, end % 86_400) for begin, end in order.restart_times] == [
            (14 * 3600, 16 * 3600)
        ] * 15, "23:00 to 01:00 in Tokyo"

    serve(tmp_path, use)


def test_a_release_without_a_restart_keeps_its_kind_and_is_counted_apart(tmp_path: Path) -> None:
    repository, keys = released(tmp_path)
    add(repository, keys, 2, kind="data")
    add(repository, keys, 3)

    async def use(served: Served) -> None:
        await served.order(UpdateState(running=3, data=1))
        served.fleet.start(RolloutPlan(release=2, boxes=(BOX,), waves=(100,)))
        with served.fleet.store.transaction() as connection:
            connection.exec_driver_sql("UPDATE rollouts SET kind = 'data'")
        await served.service.advance()
        order = await served.order(UpdateState(running=3, data=1))
        assert (order.release, order.kind) == (2, "data")

    serve(tmp_path, use)


def test_wrong_requests_and_those_of_unknown_boxes_are_refused(tmp_path: Path) -> None:
    digest = add(*released(tmp_path), 2)

    async def use(served: Served) -> None:
        async def status(method: str, target: str, body: bytes = b"", box: str = BOX) -> int:
            return int((await served.ask(method, target, body, box)).status)

        delta, timestamp = RangeRequest(digest, 0, 10).target, MetadataRange("timestamp.json", 0, 10).target
        assert [await status("GET", target) for target in (delta, timestamp)] == [200, 200]
        assert [await status("GET", target, box="RAP-0666") for target in (delta, timestamp)] == [403, 403]
        assert await status("POST", PATH, encode(UpdateState(1)), box="RAP-0666") == 403
        assert await status("GET", PATH) == 405
        assert await status("POST", PATH, b"\x00") == 422
        assert await status("GET", MetadataRange("7.root.json", 0, 10).target) == 404
        assert await status("GET", "/v1/releases/keys.pem") == 400
        assert await status("PUT", timestamp) == 400
        assert (await served.ask("GET", RangeRequest(digest, len(DELTA), 10).target)).body == b""

    serve(tmp_path, use)


def test_a_damaged_folder_is_not_used_and_its_previous_content_remains_in_service(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    repository, keys = released(tmp_path)
    add(repository, keys, 2)

    async def use(served: Served) -> None:
        add(repository, keys, 3)
        (repository.targets / "delta-3").write_bytes(b"half")
        for _ in range(3):
            await served.service.advance()
        assert sorted(served.service.folder.current.releases) == [2]
        (message,) = [record.message for record in caplog.records]
        assert "delta-3: the file in the folder is not the signed one; copy it again" in message
        (repository.targets / "delta-3").write_bytes((tmp_path / "delta-3").read_bytes())
        await served.service.advance()
        assert sorted(served.service.folder.current.releases) == [2, 3]

    serve(tmp_path, use)


@pytest.mark.parametrize(
    ("custom", "message"),
    [
        ({"kind": "data"}, "release 2: its targets have the names 1.2.0 and the kinds data, system"),
        ({"release": "other"}, "release 2: its targets have the names 1.2.0, other"),
    ],
)
def test_contradictory_targets_of_one_release_are_refused(
    tmp_path: Path, custom: dict[str, object], message: str
) -> None:
    repository, keys = released(tmp_path)
    add(repository, keys, 2)
    add(repository, keys, 2, "delta-other", **custom)
    with pytest.raises(MetadataError, match=message):
        ReleaseFolder(repository.folder).refresh(NOW_S)


def test_an_expired_timestamp_is_refused(tmp_path: Path) -> None:
    repository, keys = released(tmp_path)
    add(repository, keys, 2)
    folder = ReleaseFolder(repository.folder)
    with pytest.raises(MetadataError, match="timestamp: expired"):
        folder.refresh(NOW_S + 40 * 86_400)
    assert folder.refresh(NOW_S)
    assert not folder.refresh(NOW_S), "nothing has changed"
    assert [release.name for release in folder.current.releases.values()] == ["1.2.0"]
