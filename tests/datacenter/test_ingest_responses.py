"""The ingest handler's responses (status, headers, body), and how it identifies the sending box."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from datacenter.ingest import PATH, make_ingest
from datacenter.store import queries
from datacenter.store.queue import StoreQueue
from datacenter.store.store import Store
from tests.support.datacenter.store.batches import AT_MS, alert, encoded
from wire.compression import compress_self_contained
from wire.http.connection import Handler, Peer, Request, Response
from wire.messages import BATCH_BYTES_MAX, TIME_PATH, Batch, BatchRefusal, BatchReply, MessageError, decode

BOX = "RAP-0001"
FRONT_END = "front.example"
Send = Callable[..., Response]


async def answer(handler: Handler, request: Request) -> Response:
    return await handler(request)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{file}", durable=False)
    store.authorize([BOX], 0)
    yield store
    store.close()


@pytest.fixture
def send(store: Store) -> Send:
    """A function that handles one request; its `name` is the name in the peer's certificate."""

    def run(
        body: bytes = b"",
        *,
        name: str = BOX,
        method: str = "POST",
        target: str = PATH,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        ingest = make_ingest(lambda: AT_MS, StoreQueue(None, store.ingest_all), [FRONT_END])
        request = Request(method, target, dict(headers or {}), body, Peer(name, "", lambda: None))
        return asyncio.run(answer(ingest, request))

    return run


class Sessions:
    """Remote sessions of BOX, for which messages wait; `certificates` are the certificates of its requests."""

    def __init__(self) -> None:
        self.certificates: list[bytes | None] = []

    def is_authorized(self, box: str) -> bool:
        return box == BOX

    def has_messages(self, box: str) -> bool:
        return box == BOX

    async def answer(self, box: str, certificate: bytes | None, request: Request) -> Response:
        assert box == BOX
        self.certificates.append(certificate)
        return Response(HTTPStatus.OK)


@pytest.mark.parametrize(
    ("name", "headers", "status"),
    [
        (BOX, {}, HTTPStatus.OK),
        (FRONT_END, {"rap-box": BOX, "rap-box-certificate": "AAEC"}, HTTPStatus.OK),
        ("RAP-0666", {"rap-box": BOX, "rap-box-certificate": "AAEC"}, HTTPStatus.FORBIDDEN),
    ],
)
def test_messages_of_sessions_come_from_authorized_boxes_with_their_certificates(
    store: Store, name: str, headers: dict[str, str], status: HTTPStatus
) -> None:
    sessions = Sessions()
    ingest = make_ingest(lambda: AT_MS, StoreQueue(None, store.ingest_all), [FRONT_END], None, sessions)
    tls: Any = SimpleNamespace(getpeercert=lambda binary_form: b"of the connection" if binary_form else {})
    peer = Peer(name, "", lambda: None, tls=tls)
    response = asyncio.run(answer(ingest, Request("POST", "/v1/sessions", headers, b"", peer)))
    assert response.status == status
    expected = b"\0\1\2" if name == FRONT_END else b"of the connection"
    assert sessions.certificates == ([expected] if status == HTTPStatus.OK else [])


def test_the_reply_to_a_batch_says_that_messages_of_sessions_wait(store: Store) -> None:
    ingest = make_ingest(lambda: AT_MS, StoreQueue(None, store.ingest_all), sessions=Sessions())
    request = Request("POST", PATH, {}, body_of(1), Peer(BOX, "", lambda: None))
    assert decode(BatchReply, asyncio.run(answer(ingest, request)).body) == BatchReply(1, [], sessions=True)


def test_without_sessions_their_path_is_unknown(send: Send) -> None:
    assert send(target="/v1/sessions").status == HTTPStatus.NOT_FOUND


def body_of(number: int) -> bytes:
    return compress_self_contained(encoded(alert(number), first=number))


def test_a_time_request_gets_a_response_without_content(send: Send) -> None:
    response = send(method="GET", target=TIME_PATH)
    assert (response.status, response.body, response.close) == (HTTPStatus.NO_CONTENT, b"", False)


def test_the_response_to_another_method_names_the_allowed_one(send: Send) -> None:
    response = send(method="PUT")
    assert (response.status, response.headers) == (HTTPStatus.METHOD_NOT_ALLOWED, {"allow": "POST"})


def test_the_response_to_an_unknown_path_names_the_known_one(send: Send) -> None:
    response = send(target="/v1/reports")
    assert response.status == HTTPStatus.NOT_FOUND
    assert PATH in response.body.decode()
    assert not response.close


def test_records_are_stored_with_the_data_centers_time(send: Send, store: Store) -> None:
    response = send(body_of(1))
    assert (response.status, decode(BatchReply, response.body)) == (HTTPStatus.OK, BatchReply(1, []))
    (record,) = queries.records(store)
    assert (record.box, record.stored_at_ms) == (BOX, AT_MS)


def test_an_unauthorized_box_is_refused_by_name(send: Send) -> None:
    response = send(body_of(1), name="RAP-0666")
    assert (response.status, response.close) == (HTTPStatus.FORBIDDEN, True)
    assert "RAP-0666" in response.body.decode()


def test_a_body_that_is_not_compressed_is_refused_with_the_reason(send: Send) -> None:
    response = send(b"report")
    assert (response.status, response.close) == (HTTPStatus.BAD_REQUEST, True)
    assert response.body


def test_a_batch_that_is_not_a_message_is_refused_with_the_reason(send: Send) -> None:
    response = send(compress_self_contained(b"no message"))
    assert (response.status, response.close) == (HTTPStatus.UNPROCESSABLE_ENTITY, True)
    with pytest.raises(MessageError) as error:
        decode(Batch, b"no message")
    assert response.body == str(error.value).encode()
    with pytest.raises(MessageError):
        decode(BatchRefusal, response.body)


def test_a_batch_of_the_largest_size_is_accepted_for_decoding_and_a_larger_one_is_not(send: Send) -> None:
    sizes = (BATCH_BYTES_MAX, BATCH_BYTES_MAX + 1)
    statuses = [send(compress_self_contained(bytes(size))).status for size in sizes]
    assert statuses == [HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.BAD_REQUEST]


def test_a_failing_database_is_named_and_the_connection_stays_open(send: Send, file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("DROP TABLE commands")
    response = send(body_of(1))
    assert (response.status, response.close) == (HTTPStatus.SERVICE_UNAVAILABLE, False)
    assert "database" in response.body.decode()


def test_a_front_end_names_the_box_in_the_header(send: Send, store: Store) -> None:
    response = send(body_of(1), name=FRONT_END, headers={"rap-box": BOX})
    assert response.status == HTTPStatus.OK
    assert queries.counts(store) == {(BOX, "CHEM-0001"): 1}


def test_a_front_end_that_names_no_box_is_refused(send: Send, store: Store) -> None:
    assert send(body_of(1), name=FRONT_END).status == HTTPStatus.FORBIDDEN
    assert queries.counts(store) == {}


def test_a_box_cannot_name_another_in_the_header(send: Send, store: Store) -> None:
    assert send(body_of(1), name="RAP-0666", headers={"rap-box": BOX}).status == HTTPStatus.FORBIDDEN
    assert send(body_of(1), headers={"rap-box": "RAP-0666"}).status == HTTPStatus.OK
    assert queries.counts(store) == {(BOX, "CHEM-0001"): 1}
