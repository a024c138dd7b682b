"""Uploads of files in the browser: storage and audit records, limits, forged forms, and interruptions."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Table, select
from starlette.requests import Request

from datacenter.commands.files import FileArchive
from datacenter.store.tables.schema import commands, file_parts, files
from datacenter.web import uploads
from datacenter.web.forms import FORM_BYTES_MAX
from datacenter.web.sessions import COOKIE
from datacenter.web.uploads import UPLOADS_MAX, UPLOADS_OF_PERSON_MAX
from tests.support.datacenter.web.client import Answer, WebClient
from tests.support.datacenter.web.fleet import WAITING_FILE
from tests.support.datacenter.web.server import served
from tests.support.eventually import poll_until
from wire.files import FILE_BYTES_MAX

OF_CHEM = "/instruments/RAP-0001/CHEM-0001/commands"
CONTENT = bytes(range(256)) * 1300
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HELP = {"verb": "help-file", "purpose": "service"}
TYPE = {"content-type": "multipart/form-data; boundary=limit"}


def body_of(fields: Mapping[str, str], content: bytes | None, name: str = "help.pdf") -> bytes:
    """Return a form as a browser sends it: its fields, then its file."""
    parts = [
        f'--limit\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{text}\r\n'.encode()
        for key, text in fields.items()
    ]
    if content is not None:
        head = f'--limit\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        parts.append(f"{head}Content-Type: application/pdf\r\n\r\n".encode() + content + b"\r\n")
    return b"".join(parts) + b"--limit--\r\n"


def upload(
    person: WebClient, content: bytes | None, path: str = OF_CHEM, name: str = "help.pdf", **fields: str
) -> Answer:
    form = {"form_token": person.form_token(), **HELP, **fields}
    return person.request("POST", path, body_of(form, content, name), TYPE)


def rows(web: WebClient, table: Table) -> list[tuple[object, ...]]:
    assert web.store is not None
    return [tuple(row) for row in web.store.read(select(table))]


def count_of(web: WebClient) -> tuple[int, int, int]:
    """Return the number of stored commands, files and parts of files."""
    return len(rows(web, commands)), len(rows(web, files)), len(rows(web, file_parts))


def test_a_file_is_stored_with_its_command_and_recorded(changing: WebClient) -> None:
    assert upload(changing.sign_in("engineer"), CONTENT).status == 303
    assert changing.store is not None
    assert FileArchive(changing.store).content(SHA256) == CONTENT
    columns = (commands.c.verb, commands.c.file, commands.c.file_bytes, commands.c.file_name)
    sent = list(changing.store.read(select(*columns).where(commands.c.id == 4)))
    assert sent == [("help-file", SHA256, len(CONTENT), "help.pdf")]
    record = next(one for one in changing.entries if one.resource == SHA256)
    assert (record.actor, record.action, record.kind, record.outcome) == (
        "engineer",
        "send-file",
        "File",
        "permitted",
    )
    assert record.purpose == "service"
    assert record.reason == "help-file of 332,800 bytes for CHEM-0001 at RAP-0001"
    assert "help.pdf" in changing.sign_in("engineer").get("/commands").text


def test_the_same_content_is_one_file_and_a_form_sent_twice_is_one_command(changing: WebClient) -> None:
    engineer, (before, files_before, _) = changing.sign_in("engineer"), count_of(changing)
    assert [upload(engineer, CONTENT, key=key).status for key in ("a", "a", "b")] == [303] * 3
    assert count_of(changing)[:2] == (before + 2, files_before + 1)
    assert upload(engineer, CONTENT, key="a", purpose="service", verb="data-upload").status == 400
    assert upload(engineer, CONTENT[:9], key="a").status == 409


def test_the_page_offers_the_form_with_a_key_that_is_used_once(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    first, second = (engineer.get("/commands?instrument=CHEM-0001&box=RAP-0001").text for _ in range(2))
    assert 'enctype="multipart/form-data"' in first and "at most 16 MiB" in first
    assert "help file</option>" in first and "assay configuration</option>" not in first
    keys = {text.partition('name="key" value="')[2].partition('"')[0] for text in (first, second)}
    assert len(keys) == 2


def test_a_dangerous_file_waits_for_a_second_person(changing: WebClient) -> None:
    specialist = changing.sign_in("specialist")
    form = specialist.get("/commands?instrument=CHEM-0001&box=RAP-0001").text
    assert "assay configuration</option>" in form
    fields = {"verb": "assay-configuration", "purpose": "application-support"}
    assert upload(specialist, CONTENT, **fields).status == 303
    assert changing.store is not None
    state = select(commands.c.state).where(commands.c.id == 4)
    assert list(changing.store.read(state)) == [("waiting for approval",)]
    assert specialist.post("/commands/4/approve").status == 403
    assert changing.sign_in("supervisor").post("/commands/4/approve").status == 303
    assert list(changing.store.read(state)) == [("queued",)]
    assert upload(changing.sign_in("engineer"), CONTENT, **fields).status == 403


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("with_length", [False, True])
def test_the_limit_of_the_size(changing: WebClient, more: int, with_length: bool) -> None:
    engineer, before = changing.sign_in("engineer"), count_of(changing)
    body = body_of({"form_token": engineer.form_token(), **HELP}, bytes(FILE_BYTES_MAX + more))
    header = {"content-length": str(len(body))} if with_length else {}
    answer = engineer.request("POST", OF_CHEM, body, {**TYPE, **header})
    assert answer.status == (413 if more else 303)
    if more:
        assert "end a file of at most 16,777,216 bytes" in answer.text
        assert count_of(changing) == before
        last = changing.entries[-1]
        assert (last.outcome, last.action, last.resource) == ("refused", "view", "RAP-0001/CHEM-0001")
        assert "too large" in last.reason


def test_a_length_far_beyond_the_limit_is_refused_before_the_file_is_read(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    header = {"content-length": str(FILE_BYTES_MAX + 3 * FORM_BYTES_MAX)}
    assert engineer.request("POST", OF_CHEM, b"", {**TYPE, **header}).status == 413


@pytest.mark.parametrize("size", [9, FILE_BYTES_MAX + 1], ids=["small", "too large"])
def test_a_foreign_instrument_is_answered_like_an_unknown_one(changing: WebClient, size: int) -> None:
    european = changing.sign_in("european")
    foreign, unknown = (
        upload(european, bytes(size), f"/instruments/{names}/commands")
        for names in ("RAP-0003/GAS-0001", "RAP-0009/GAS-0009")
    )
    assert foreign.status == (404 if size == 9 else 413)
    assert (foreign.status, foreign.headers, foreign.body) == (unknown.status, unknown.headers, unknown.body)


def test_without_the_right_nothing_is_stored(changing: WebClient) -> None:
    before = count_of(changing)
    assert upload(changing.sign_in("observer"), CONTENT).status == 403
    untrained = "/instruments/RAP-0001/HEMA-0001/commands"
    assert upload(changing.sign_in("engineer"), CONTENT, untrained).status == 403
    assert upload(changing, CONTENT).status == 401
    assert count_of(changing) == before


def test_a_forged_form_is_refused_before_its_file_is_received(changing: WebClient) -> None:
    engineer, before = changing.sign_in("engineer"), count_of(changing)
    assert upload(engineer, CONTENT, form_token=changing.sign_in("engineer").form_token()).status == 403
    assert engineer.request("POST", OF_CHEM, body_of(HELP, CONTENT), TYPE).status == 403
    body = body_of({"form_token": engineer.form_token(), **HELP}, CONTENT)
    assert engineer.request("POST", OF_CHEM, body, {**TYPE, "sec-fetch-site": "cross-site"}).status == 403
    too_large = body_of(HELP, bytes(FILE_BYTES_MAX + 1))
    assert engineer.request("POST", OF_CHEM, too_large, TYPE).status == 403
    assert count_of(changing) == before


def test_a_form_without_a_file_sends_a_command_without_one(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    assert upload(engineer, b"", name="", verb="send-inventory").status == 303
    assert upload(engineer, None, verb="send-inventory").status == 303
    assert upload(engineer, b"", name="").status == 400
    assert "needs a file that is not empty" in upload(engineer, b"").text


@pytest.mark.parametrize(
    ("body", "right"),
    [
        (b"", "is not complete"),
        (b"--other--\r\n", "must be multipart/form-data"),
        (body_of(HELP, CONTENT)[:-30], "is not complete"),
        (b"--limit\r\nX: y\r\n\r\nz\r\n--limit--\r\n", "must be multipart/form-data"),
        (b"--limit\r\n" + b"X" * 20_000, "must be multipart/form-data"),
        (body_of({f"f{number}": "" for number in range(40)}, None), "oo many fields"),
        (body_of({"verb": "x" * (FORM_BYTES_MAX + 1)}, None), "larger than 16384 bytes"),
        (body_of({"file": "x"}, None), "nknown parameter"),
    ],
)
def test_malformed_forms_are_refused(changing: WebClient, body: bytes, right: str) -> None:
    engineer = changing.sign_in("engineer")
    token = body_of({"form_token": engineer.form_token()}, None).removesuffix(b"--limit--\r\n")
    answer = engineer.request("POST", OF_CHEM, token + body, TYPE)
    assert (answer.status, right in answer.text) == (400, True)
    assert engineer.request("POST", OF_CHEM, body, {"content-type": "multipart/form-data"}).status == 400


def test_two_files_are_refused(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    first = body_of({"form_token": engineer.form_token(), **HELP}, b"a").removesuffix(b"--limit--\r\n")
    assert engineer.request("POST", OF_CHEM, first + body_of({}, b"b"), TYPE).status == 400


def begin_of(person: WebClient, body: bytes) -> bytes:
    """Return the head of a request with this form as its body."""
    return (
        f"POST {OF_CHEM} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {COOKIE}={person.cookie}\r\n"
        f"Content-Type: {TYPE['content-type']}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()


def test_an_upload_that_is_cut_leaves_nothing_behind(
    changing: WebClient, caplog: pytest.LogCaptureFixture
) -> None:
    engineer, before = changing.sign_in("engineer"), count_of(changing)
    body = body_of({"form_token": engineer.form_token(), **HELP}, bytes(1_000_000))
    head = begin_of(engineer, body)
    with caplog.at_level(logging.WARNING), served(changing.application) as address:
        server = ("127.0.0.1", urlsplit(address).port)
        for sent in (0, 100, 500_000, len(body) - 1):
            with socket.create_connection(server) as connection:
                connection.sendall(head + body[:sent])

        def is_sent() -> bool:
            with socket.create_connection(server, timeout=60) as connection:
                connection.sendall(head + body)
                return connection.recv(100).startswith(b"HTTP/1.1 303")

        poll_until(is_sent)  # the server must first notice that the other connections have ended
    assert count_of(changing)[0] == before[0] + 1
    assert sorted(int(str(size)) for (_, size, _) in rows(changing, files)) == [
        4,
        len(WAITING_FILE),
        1_000_000,
    ]
    assert caplog.records == []


def request_with(content: bytes) -> Request:
    """Return a program's request whose body is a file with this content."""

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": content, "more_body": False}

    headers = [(b"content-type", b"application/octet-stream")]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def test_concurrent_uploads_are_limited() -> None:
    asyncio.run(receive_many())


async def receive_many() -> None:
    receiver = uploads.FileReceiver()

    async def receive(staff: str, into: AsyncExitStack) -> bytes:
        file = await into.enter_async_context(receiver.file(request_with(b"a file"), staff))
        file.content.seek(0)
        return file.content.read()

    async with AsyncExitStack() as others:
        async with AsyncExitStack() as own:
            for _ in range(UPLOADS_OF_PERSON_MAX):
                assert await receive("one", own) == b"a file"
            with pytest.raises(uploads.NotReceivedError, match="at most 4 for a person"):
                await receive("one", own)
            for number in range(UPLOADS_OF_PERSON_MAX, UPLOADS_MAX):
                await receive(str(number), others)
            with pytest.raises(uploads.NotReceivedError, match="32 in total"):
                await receive("another", others)
        assert await receive("one", others) == b"a file"


def test_an_upload_beyond_the_limit_gets_429_with_retry_after(
    changing: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "UPLOADS_OF_PERSON_MAX", 0)
    answer = upload(changing.sign_in("engineer"), CONTENT)
    assert (answer.status, answer.headers["retry-after"]) == (429, "10")


def test_an_upload_that_stalls_ends(changing: WebClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "UPLOAD_SECONDS_MAX", 0)
    engineer, before = changing.sign_in("engineer"), count_of(changing)
    body = body_of({"form_token": engineer.form_token(), **HELP}, CONTENT)
    with (
        served(changing.application) as address,
        socket.create_connection(("127.0.0.1", urlsplit(address).port), timeout=60) as connection,
    ):
        connection.sendall(begin_of(engineer, body) + body[:1000])
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
    assert count_of(changing) == before
