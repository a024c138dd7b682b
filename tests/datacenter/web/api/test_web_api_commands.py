"""Commands and files in the API: idempotency, approval by people only, rights of tokens, downloads, wrong input."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from sqlalchemy import func, select

from datacenter.access.tokens import create_token
from datacenter.store.tables.schema import commands, files
from datacenter.web.pages import ROUTES
from tests.support.datacenter.web.client import Answer, WebClient, open_web
from tests.support.datacenter.web.fleet import NOW_MS
from wire.files import FILE_BYTES_MAX

API = "/api/v1"
OF_CHEM = f"{API}/instruments/RAP-0001/CHEM-0001"
CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()
INVENTORY = b'{"verb": "send-inventory"}'


@pytest.fixture
def program(changing: WebClient) -> WebClient:
    """A program of the engineer for service."""
    return changing.sign_in("engineer").program("service")


def upload(
    client: WebClient, content: bytes, query: str = "verb=help-file&name=help.pdf", **headers: str
) -> Answer:
    given = {"content-type": "application/octet-stream", **headers}
    return client.request("POST", f"{OF_CHEM}/files?{query}", content, given)


def json_of(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.text
    decoded: dict[str, Any] = json.loads(answer.body)
    return decoded


def command_count(web: WebClient) -> int:
    assert web.store is not None
    return int(next(web.store.read(select(func.count()).select_from(commands)))[0])


def test_a_program_sends_reads_and_withdraws_a_command(program: WebClient) -> None:
    sent = json_of(program.post_json(f"{OF_CHEM}/commands", b'{"verb": "send-inventory", "hours": 2}'))
    assert (sent["state"], sent["requester"], sent["purpose"]) == ("queued", "engineer", "service")
    assert sent["expires_at_ms"] == NOW_MS + 2 * 3_600_000
    resource = f"{API}/commands/{sent['command']}"
    assert json_of(program.get(resource)) == sent
    assert json_of(program.get(f"{API}/commands?instrument=CHEM-0001&state=queued"))["items"][0] == sent
    for _ in range(2):
        assert json_of(program.post_json(f"{resource}/withdraw"))["state"] == "withdrawn"
    assert program.entries[-1].token


def test_a_repeated_request_has_one_effect_also_in_another_process(program: WebClient) -> None:
    before = command_count(program)
    first = json_of(program.post_json(f"{OF_CHEM}/commands", INVENTORY, idempotency_key="one"))
    assert program.store is not None
    other = open_web(program.store, lambda: NOW_MS)
    for web in (program, other.sign_in("engineer").program("service")):
        again = json_of(web.post_json(f"{OF_CHEM}/commands", INVENTORY, idempotency_key="one"))
        assert again == first
    sent = json_of(upload(program, CONTENT, idempotency_key="two"))
    assert json_of(upload(program, CONTENT, idempotency_key="two")) == sent
    assert command_count(program) == before + 2
    for repeated in (
        upload(program, CONTENT + b"x", idempotency_key="two"),
        upload(program, CONTENT, idempotency_key="one"),
    ):
        assert (repeated.status, "use a new key" in repeated.text) == (409, True)
    assert upload(program, CONTENT, idempotency_key="x" * 101).status == 400
    assert command_count(program) == before + 2


def test_a_file_is_uploaded_listed_and_downloaded(program: WebClient) -> None:
    sent = json_of(upload(program, CONTENT))
    assert sent["file"] == {
        "sha256": SHA256,
        "size": len(CONTENT),
        "name": "help.pdf",
        "transferred": 0,
        "is_complete": True,
    }
    record = next(one for one in program.entries if one.resource == SHA256)
    assert record.token and (record.action, record.purpose) == ("send-file", "service")
    item = json_of(program.get(f"{API}/files?direction=to-instrument"))["items"][0]
    assert (item["sha256"], item["command"], item["commands"]) == (SHA256, sent["command"], 1)
    target = f"{API}/commands/{sent['command']}/file"
    download = program.get(target)
    assert (download.status, download.body) == (200, CONTENT)
    assert program.get(target, if_none_match=download.headers["etag"]).status == 304
    part = program.get(target, range="bytes=100-199", if_range=download.headers["etag"])
    assert (part.status, part.body) == (206, CONTENT[100:200])
    assert program.entries[-1].action == "download-file"


def test_the_same_content_is_stored_once(program: WebClient) -> None:
    assert program.store is not None
    for _ in range(2):
        json_of(upload(program, CONTENT))
    query = select(func.count()).select_from(files).where(files.c.sha256 == SHA256)
    assert [tuple(row) for row in program.store.read(query)] == [(1,)]
    assert json_of(program.get(f"{API}/files"))["items"][0]["commands"] == 2


def test_a_dangerous_command_waits_for_a_person(changing: WebClient) -> None:
    specialist = changing.sign_in("specialist").program("application-support")
    sent = json_of(upload(specialist, CONTENT, "verb=assay-configuration"))
    assert sent["state"] == "waiting for approval"
    assert [row.path for row in ROUTES if row.response_kind == "api" and "approve" in row.path] == []
    supervisor = changing.sign_in("supervisor")
    with_token = supervisor.program("service")
    page = f"/commands/{sent['command']}/approve"
    assert with_token.post(page).status == 401
    assert supervisor.post(page).status == 303
    after = json_of(specialist.get(f"{API}/commands/{sent['command']}"))
    assert (after["state"], after["approved_by"]) == ("queued", "supervisor")


def test_a_token_sends_only_what_it_and_its_owner_may(changing: WebClient) -> None:
    engineer, before = changing.sign_in("engineer"), command_count(changing)
    assert upload(engineer.program("monitoring"), CONTENT).status == 403
    assert upload(engineer.program("service", "read"), CONTENT).status == 403
    assert upload(engineer.program("service", "send-file"), CONTENT).status == 404  # it may not view
    assert upload(engineer.program("service"), CONTENT, "verb=test-menu").status == 403
    assert upload(changing.sign_in("observer").program("service"), CONTENT).status == 403
    assert upload(engineer, CONTENT).status == 401
    assert engineer.post_json(f"{OF_CHEM}/commands", INVENTORY).status == 401
    assert changing.store is not None
    limits = frozenset({"read", "change"}), frozenset({"region/america"})
    secret, _ = create_token(changing.store, "engineer", "service", *limits, NOW_MS, NOW_MS + 1000)
    assert upload(changing, CONTENT, authorization=f"Bearer {secret}").status == 404
    assert command_count(changing) == before


@pytest.mark.parametrize("size", [9, FILE_BYTES_MAX + 1], ids=["small", "too large"])
def test_a_foreign_instrument_is_answered_like_an_unknown_one(changing: WebClient, size: int) -> None:
    european = changing.sign_in("european").program("service")
    foreign, unknown = (
        european.request(
            "POST",
            f"{API}/instruments/{names}/files?verb=help-file",
            bytes(size),
            {"content-type": "application/octet-stream"},
        )
        for names in ("RAP-0003/GAS-0001", "RAP-0009/GAS-0009")
    )
    assert foreign.status == (404 if size == 9 else 413)
    assert (foreign.status, foreign.headers, foreign.body) == (unknown.status, unknown.headers, unknown.body)
    assert [one.outcome for one in changing.entries[-2:]] == ["refused"] * 2


@pytest.mark.parametrize(
    ("query", "content", "headers", "status", "right"),
    [
        ("verb=help-file", b"", {}, 400, "needs a file that is not empty"),
        ("verb=send-inventory", b"x", {}, 400, "send-inventory takes no file"),
        ("", b"x", {}, 400, "missing required field `verb`"),
        ("verb=help", b"x", {}, 400, "did you mean"),
        ("verb=help-file&hours=0", b"x", {}, 400, "hours"),
        ("verb=help-file", b"x", {"content-type": "text/plain"}, 415, "application/octet-stream"),
        ("verb=help-file", bytes(FILE_BYTES_MAX + 1), {}, 413, "at most 16,777,216 bytes"),
    ],
)
def test_wrong_uploads_are_problems_that_say_what_would_be_right(
    program: WebClient, query: str, content: bytes, headers: dict[str, str], status: int, right: str
) -> None:
    before = command_count(program)
    answer = upload(program, content, query, **headers)
    problem = json.loads(answer.body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status, problem["status"], right in problem["detail"]) == (status, status, True), problem
    assert command_count(program) == before


def test_commands_with_a_file_are_not_sent_without_one(program: WebClient) -> None:
    answer = program.post_json(f"{OF_CHEM}/commands", b'{"verb": "help-file"}')
    assert (answer.status, "needs a file" in answer.text) == (400, True)
    assert program.post_json(f"{OF_CHEM}/commands", b"{}").status == 400
