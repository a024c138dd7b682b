"""The ingest endpoint over mutual TLS on loopback, with valid and invalid requests."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert

from datacenter.commands.files import FileArchive
from datacenter.commands.ranges import FileRanges
from datacenter.enrolment.box_lists import DeniedBoxes
from datacenter.ingest import PATH, make_ingest
from datacenter.refused import RefusedClients
from datacenter.store import queries
from datacenter.store.batches.batch import Received
from datacenter.store.queue import StoreQueue
from datacenter.store.store import Store
from datacenter.store.tables.schema import denied_instruments
from tests.support.datacenter.store.batches import AT_MS, alert, batch, encoded
from tests.support.eventually import WAIT_SECONDS_MAX
from tests.support.runner.logged import logged
from wire.compression import Compressor, Decompressor
from wire.files import RangeRequest
from wire.http.connection import ClientConnection, Handler, HttpError, Peer, Request, Response, serve
from wire.messages import (
    BATCH_BODY_BYTES_MAX,
    BATCH_BYTES_MAX,
    DENIED_MAX,
    REPLY_BYTES_MAX,
    Batch,
    BatchRefusal,
    BatchReply,
    Entry,
    Quality,
    decode,
    encode,
    encode_batch,
)
from wire.pki.hierarchy import Authority, make_key
from wire.tls.context import Identity, client_context, server_context

BOX = "RAP-0001"


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    """Certificates of the data center, of two authorized boxes, and of a box that is not authorized."""
    folder, key = tmp_path_factory.mktemp("pki"), make_key()
    vendor, public = Authority.make("vendor"), Authority.make("public")
    server = public.issue(folder, "datacenter", hosts=("localhost",), trusts=vendor, key=key)
    boxes = [vendor.issue(folder, name, trusts=public, key=key) for name in (BOX, "RAP-0002", "RAP-0666")]
    return dict(zip(("server", BOX, "RAP-0002", "RAP-0666"), (server, *boxes), strict=True))


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


Client = Callable[[ClientConnection], Awaitable[object]]


@pytest.fixture
def meet(identities: dict[str, Identity], file: str) -> Callable[..., Store]:
    """A function that runs clients one after the other, each with the certificate of the named box."""

    def run(
        *clients: tuple[str, Client],
        around: Callable[[Handler], Handler] = lambda inner: inner,
        **options: Any,
    ) -> Store:
        store = Store(file)
        store.authorize([BOX, "RAP-0002"], 0)

        async def exchange() -> None:
            loop = asyncio.get_running_loop()
            with ThreadPoolExecutor(1) as executor:
                handler = around(
                    make_ingest(lambda: AT_MS, StoreQueue(executor, store.ingest_all), **options)
                )
                tls = server_context(identities["server"])
                server = await serve(
                    handler, "127.0.0.1", 0, tls=tls, body_bytes_max=BATCH_BODY_BYTES_MAX, now=lambda: 0.0
                )
                for name, client in clients:
                    _, connection = await loop.create_connection(
                        lambda: ClientConnection("localhost", REPLY_BYTES_MAX),
                        "127.0.0.1",
                        server.port,
                        ssl=client_context(identities[name]),
                        server_hostname="localhost",
                    )
                    await asyncio.wait_for(client(connection), WAIT_SECONDS_MAX)
                    connection.close()
                await server.close()

        asyncio.run(exchange())
        return store

    return run


def numbers(store: Store) -> list[int | None]:
    return [record.number for record in queries.records(store)]


def test_a_batch_is_committed_before_it_is_answered(meet: Callable[..., Store], file: str) -> None:
    async def client(connection: ClientConnection) -> None:
        response = await connection.request("POST", PATH, Compressor().compress(encoded(alert(1), alert(2))))
        assert (response.status, decode(BatchReply, response.body).stored) == (200, 2)
        other = Store(file)
        assert numbers(other) == [1, 2]
        other.close()

    meet((BOX, client))


def test_batches_sent_ahead_continue_one_stream(meet: Callable[..., Store]) -> None:
    async def client(connection: ClientConnection) -> None:
        stream = Compressor()
        answers = [
            connection.request("POST", PATH, stream.compress(encoded(alert(n), first=n))) for n in range(1, 6)
        ]
        assert [(await answer).status for answer in answers] == [200] * 5

    assert numbers(meet((BOX, client))) == [1, 2, 3, 4, 5]


def test_a_new_connection_starts_a_new_stream_and_repetitions_cause_no_duplicate(
    meet: Callable[..., Store],
) -> None:
    async def client(connection: ClientConnection) -> None:
        answer = await connection.request("POST", PATH, Compressor().compress(encoded(alert(1))))
        assert answer.status == 200

    store = meet((BOX, client), (BOX, client), ("RAP-0002", client))
    assert [(record.box, record.number) for record in queries.records(store)] == [(BOX, 1), ("RAP-0002", 1)]


def test_the_reply_contains_the_waiting_commands(meet: Callable[..., Store], file: str) -> None:
    store = Store(file)
    store.authorize([BOX], 0)
    number = store.queue_command(BOX, "CHEM-0001", "help-file", b"text", 0)
    store.close()

    async def client(connection: ClientConnection) -> None:
        answer = await connection.request("POST", PATH, Compressor().compress(encoded(alert(1))))
        assert [command.id for command in decode(BatchReply, answer.body).commands] == [number]

    meet((BOX, client))


def test_an_unauthorized_box_is_refused_logged_and_disconnected(
    meet: Callable[..., Store], caplog: pytest.LogCaptureFixture
) -> None:
    async def client(connection: ClientConnection) -> None:
        answer = await connection.request("POST", PATH, Compressor().compress(encoded(alert(1))))
        assert answer.status == 403
        await connection.lost

    around = partial(RefusedClients().logged, front_ends=())
    assert numbers(meet(("RAP-0666", client), around=around)) == []
    assert [line[:31] for line in logged(caplog, "datacenter")] == ["RAP-0666 is refused: it is not "]


def test_a_box_gets_the_ranges_of_its_files_if_the_data_center_has_an_archive(
    meet: Callable[..., Store], file: str
) -> None:
    store = Store(file)
    store.authorize([BOX], 0)
    archive = FileArchive(store)
    wanted = RangeRequest(archive.keep(b"content", 0), 2, 3)
    store.queue_command(BOX, "CHEM-0001", "help-file", b"", 0, file=wanted.sha256, file_bytes=7)

    async def client(connection: ClientConnection, status: int, body: bytes) -> None:
        answer = await connection.request("GET", wanted.target, b"")
        assert (answer.status, answer.body) == (status, body)

    meet((BOX, partial(client, status=404, body=b"unknown path; batches are sent to /v1/batches")))
    ranges = FileRanges(archive, None, lambda: AT_MS)
    meet((BOX, partial(client, status=200, body=b"nte")), files=ranges)
    store.close()


def test_the_reply_lists_instruments_that_are_denied(meet: Callable[..., Store], file: str) -> None:
    store = Store(file)
    store.authorize([BOX, "RAP-0002"], 0)
    with store.transaction() as connection:
        instruments = [f"CHEM-{number:04}" for number in range(DENIED_MAX + 1)]
        row = {"box": BOX, "denied_at_ms": 0, "denied_by": "supervisor", "reason": "stolen"}
        connection.execute(
            insert(denied_instruments), [{**row, "instrument": instrument} for instrument in instruments]
        )

    async def client(connection: ClientConnection, denied: list[str]) -> None:
        answer = await connection.request("POST", PATH, Compressor().compress(encoded(alert(1))))
        assert decode(BatchReply, answer.body).denied == denied

    own, other = partial(client, denied=instruments[:DENIED_MAX]), partial(client, denied=[])
    meet((BOX, own), ("RAP-0002", other), denied=DeniedBoxes(store))
    store.close()


def first(data: bytes) -> bytes:
    """Return the body that starts a stream with this data."""
    return Compressor().compress(data)


def middle() -> bytes:
    stream = Compressor()
    stream.compress(encoded(*(alert(n) for n in range(1, 40))))
    return stream.compress(encoded(*(alert(n) for n in range(40, 80)), first=40))


def inventory(kind: str, contents: object) -> bytes:
    return first(msgspec.msgpack.encode([1, 0, [[1, ["A", 1, [kind, 1, 2, contents]]]]]))


REFUSED = {
    "empty": (b"", 400),
    "garbage": (b"\x01" + b"garbage" * 10, 400),
    "json": (b'{"records": []}', 400),
    "dictionary-of-the-future": (b"\x63" + first(encoded(alert(1)))[1:], 400),
    "bomb": (first(bytes(100 * BATCH_BYTES_MAX)), 400),
    "a-byte-too-large": (first(bytes(BATCH_BYTES_MAX + 1)), 400),
    "cut-short": (first(encoded(alert(1)))[:-4], 422),
    "no-message": (first(b"no message"), 422),
    "largest-nonsense": (first(bytes(BATCH_BYTES_MAX)), 422),
    "unknown-kind": (inventory("gossip", {"glu": 3}), 422),
    "unknown-field": (inventory("inventory", {"Jane Doe": 3}), 422),
    "no-records": (first(msgspec.msgpack.encode([1, 0, []])), 422),
    "bytes-left-over": (first(encoded(alert(1)) + b"\x00"), 422),
    "body-too-large": (bytes(BATCH_BODY_BYTES_MAX + 1), 413),
}


def test_each_refusal_has_exactly_one_cause() -> None:
    right = inventory("inventory", {"glu": 3})
    decode(Batch, Decompressor().decompress(right, BATCH_BYTES_MAX))


@pytest.mark.parametrize("case", REFUSED)
def test_an_invalid_batch_is_refused_and_its_connection_closed(meet: Callable[..., Store], case: str) -> None:
    body, status = REFUSED[case]

    async def client(connection: ClientConnection) -> None:
        assert (await connection.request("POST", PATH, body)).status == status
        await connection.lost

    async def another(connection: ClientConnection) -> None:
        answer = await connection.request("POST", PATH, Compressor().compress(encoded(alert(7))))
        assert answer.status == 200

    assert numbers(meet((BOX, client), (BOX, another))) == [7]


def test_the_middle_of_a_stream_is_refused_and_its_connection_stays_open(meet: Callable[..., Store]) -> None:
    async def client(connection: ClientConnection) -> None:
        assert (await connection.request("POST", PATH, middle())).status == 409
        assert (await connection.request("POST", PATH, first(encoded(alert(7))))).status == 200

    assert numbers(meet((BOX, client))) == [7]


def test_an_invalid_record_is_named_and_nothing_of_its_batch_is_stored(
    meet: Callable[..., Store],
) -> None:
    of_later_version = [3, ["CHEM-0001", 1, ["humidity", 9, AT_MS]]]
    good = msgspec.msgpack.decode(encoded(alert(1)))[2][0]
    body = first(msgspec.msgpack.encode([7, 40, [good, of_later_version, good]]))

    async def client(connection: ClientConnection) -> None:
        answer = await connection.request("POST", PATH, body)
        assert (answer.status, decode(BatchRefusal, answer.body)) == (422, BatchRefusal(7, 44))
        await connection.lost

    assert numbers(meet((BOX, client))) == []


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", PATH, 405), ("PUT", PATH, 405), ("GET", "/", 404), ("POST", "/v2/batches", 404)],
)
def test_other_targets_and_methods_are_refused(
    meet: Callable[..., Store], method: str, target: str, status: int
) -> None:
    async def client(connection: ClientConnection) -> None:
        assert (await connection.request(method, target)).status == status
        again = await connection.request("POST", PATH, Compressor().compress(encoded(alert(1))))
        assert again.status == 200

    assert numbers(meet((BOX, client))) == [1]


def test_a_failing_database_gives_503_and_the_stream_continues(meet: Callable[..., Store], file: str) -> None:
    def rename(table: str, to: str) -> None:
        with closing(sqlite3.connect(file.removeprefix("sqlite:///"))) as database:
            database.execute(f"ALTER TABLE {table} RENAME TO {to}")

    async def client(connection: ClientConnection) -> None:
        stream = Compressor()

        async def send() -> int:
            return (await connection.request("POST", PATH, stream.compress(encoded(alert(1))))).status

        rename("commands", "hidden")
        assert await send() == 503
        rename("hidden", "commands")
        assert await send() == 200

    assert numbers(meet((BOX, client))) == [1]


def test_a_response_lost_after_the_commit_causes_no_duplicate(meet: Callable[..., Store]) -> None:
    lost: list[Response] = []

    def lose_the_first(inner: Handler) -> Handler:
        async def handler(request: Request) -> Response:
            response = await inner(request)
            if not lost:
                lost.append(response)
                request.peer.hang_up()
            return response

        return handler

    async def unlucky(connection: ClientConnection) -> None:
        with pytest.raises(HttpError):
            await connection.request("POST", PATH, Compressor().compress(encoded(alert(1))))

    async def again(connection: ClientConnection) -> None:
        answer = await connection.request("POST", PATH, Compressor().compress(encoded(alert(1), alert(2))))
        assert decode(BatchReply, answer.body).stored == 1

    assert numbers(meet((BOX, unlucky), (BOX, again), around=lose_the_first)) == [1, 2]


def hanging(store: Store, resumed: Event) -> Callable[[list[Received]], list[BatchReply | Exception]]:
    """Return an `ingest_all` that hangs at a batch of the unauthorized box "hangs" until `resumed` is set."""

    def ingest_all(received: list[Received]) -> list[BatchReply | Exception]:
        if received[0].box == "hangs":
            resumed.wait(WAIT_SECONDS_MAX)
        return [*store.ingest_all(received)]

    return ingest_all


def test_while_the_database_hangs_reconnecting_boxes_do_not_accumulate_calls(file: str) -> None:
    async def run() -> None:
        resumed, store = Event(), Store(file)
        store.authorize([BOX], 0)
        with ThreadPoolExecutor(1) as executor:
            queue = StoreQueue(executor, hanging(store, resumed), 20)
            hangs = asyncio.ensure_future(
                queue.run(Received("hangs", batch(alert(1)), 0), urgent=True, is_abandoned=lambda: False)
            )
            await asyncio.sleep(0)
            ingest, requests = make_ingest(lambda: AT_MS, queue), []
            for number in range(1, 101):  # each client aborts its request, and another one connects
                peer = Peer(BOX, "", lambda: None)
                request = Request("POST", PATH, {}, first(encoded(alert(number), first=number)), peer)
                requests.append(asyncio.ensure_future(ingest(request)))
                await asyncio.sleep(0)
                peer.is_lost = number <= 90
            assert queue.filling()[0] <= 20
            resumed.set()
            await asyncio.gather(hangs, *requests, return_exceptions=True)
        assert numbers(store) == list(range(91, 101))

    asyncio.run(run())


def test_a_full_queue_refuses_routine_batches_with_retry_after_and_accepts_alerts(file: str) -> None:
    async def run() -> None:
        resumed, store = Event(), Store(file)
        store.authorize([BOX], 0)
        with ThreadPoolExecutor(1) as executor:
            queue = StoreQueue(executor, hanging(store, resumed), 10)
            nine = batch(*(alert(number) for number in range(1, 10)))
            hangs = asyncio.ensure_future(
                queue.run(Received("hangs", nine, 0), urgent=True, is_abandoned=lambda: False)
            )
            await asyncio.sleep(0)
            ingest, peer = make_ingest(lambda: AT_MS, queue), Peer(BOX, "", lambda: None)
            routine = encode_batch(7, [(2, encode(Entry("CHEM-0001", 1, Quality(2, AT_MS, "glu", 1, 0))))])
            urgent = asyncio.ensure_future(ingest(Request("POST", PATH, {}, first(encoded(alert(1))), peer)))
            await asyncio.sleep(0)
            refused = await ingest(Request("POST", PATH, {}, first(routine), peer))
            assert (refused.status, refused.headers) == (503, {"retry-after": "10"})
            resumed.set()
            await asyncio.gather(hangs, return_exceptions=True)
            assert (await urgent).status == 200
            assert (await ingest(Request("POST", PATH, {}, first(routine), peer))).status == 200
        assert numbers(store) == [1, 2]

    asyncio.run(run())
