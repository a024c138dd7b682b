"""Downloads of the files of commands: headers, ranges, ETags, rights and audit records."""

from __future__ import annotations

import hashlib
from random import Random

import pytest

from datacenter.commands.files import FileArchive
from datacenter.store.store import Store
from datacenter.web.files.downloads import attachment
from tests.support.datacenter.web.client import Answer, WebClient
from tests.support.datacenter.web.fleet import COMMAND, NOW_MS
from wire.files import RANGE_BYTES_MAX, UploadRange

CONTENT = Random(5).randbytes(20 * RANGE_BYTES_MAX + 7)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = "/commands/4/file"


def receive(store: Store, upto: int = len(CONTENT)) -> None:
    """Queue command 4, an upload by CHEM-0001, and receive its file from the box up to the byte `upto`."""
    number = store.queue_command("RAP-0001", "CHEM-0001", "data-upload", b"", NOW_MS, **COMMAND)
    archive = FileArchive(store)
    for offset in range(0, upto, RANGE_BYTES_MAX):
        upload = UploadRange(number, SHA256, len(CONTENT), offset)
        archive.receive("RAP-0001", upload, CONTENT[offset : offset + RANGE_BYTES_MAX], NOW_MS)


@pytest.fixture
def engineer(changing: WebClient) -> WebClient:
    assert changing.store is not None
    receive(changing.store)
    return changing.sign_in("engineer")


def ranged(person: WebClient, text: str, **headers: str) -> Answer:
    return person.get(FILE, range=text, **headers)


def test_a_file_of_an_instrument_is_downloaded_as_an_attachment(engineer: WebClient) -> None:
    assert f'href="{FILE}" download' in engineer.get("/commands").text
    answer = engineer.get(FILE)
    assert (answer.status, answer.body == CONTENT) == (200, True)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith(
        'attachment; filename="CHEM-0001-data-upload-4.bin"'
    )
    assert answer.headers["etag"] == f'"{SHA256}"'
    record = engineer.entries[-1]
    assert (record.action, record.resource, record.outcome) == ("download-file", SHA256, "permitted")


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=32760-32777", 32760, 32778),
        ("bytes=100-", 100, len(CONTENT)),
        ("bytes=-9", len(CONTENT) - 9, len(CONTENT)),
        (f"bytes=-{10**9}", 0, len(CONTENT)),
        (f"BYTES=5-{10**9}", 5, len(CONTENT)),
    ],
)
def test_a_range_is_a_part_of_the_file(engineer: WebClient, text: str, begin: int, end: int) -> None:
    answer = ranged(engineer, text)
    assert (answer.status, answer.body == CONTENT[begin:end]) == (206, True)
    assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(end - begin)


@pytest.mark.parametrize("text", [f"bytes={len(CONTENT)}-", "bytes=-0"])
def test_a_range_without_a_byte_is_refused(engineer: WebClient, text: str) -> None:
    answer = ranged(engineer, text)
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")
    assert answer.body == b""


@pytest.mark.parametrize(
    "text", ["bytes=-", "bytes=0-1,3-4", "lines=1-2", "bytes=x-1", "bytes=1", "bytes=9-8"]
)
def test_other_ranges_are_ignored(engineer: WebClient, text: str) -> None:
    assert (ranged(engineer, text).status, len(ranged(engineer, text).body)) == (200, len(CONTENT))


def test_a_download_is_resumed_only_if_the_file_is_the_same(engineer: WebClient) -> None:
    etag = engineer.get(FILE).headers["etag"]
    assert engineer.get(FILE, if_none_match=etag).status == 304
    assert ranged(engineer, "bytes=9-", if_range=etag).status == 206
    assert ranged(engineer, "bytes=9-", if_range='"other"').status == 200


def test_an_incomplete_file_cannot_be_downloaded(changing: WebClient) -> None:
    assert changing.store is not None
    receive(changing.store, len(CONTENT) - 1 - RANGE_BYTES_MAX)
    engineer = changing.sign_in("engineer")
    assert f'href="{FILE}"' not in engineer.get("/commands").text
    answer = engineer.get(FILE)
    assert (answer.status, "has no complete file" in answer.text) == (409, True)
    assert engineer.get("/commands/1/file").status == 409


def test_without_the_right_nothing_is_offered_or_given(engineer: WebClient) -> None:
    for staff, status in (("observer", 403), ("supervisor", 403), ("newcomer", 404)):
        person = engineer.sign_in(staff)
        assert FILE not in person.get("/commands").text
        assert (person.get(FILE).status, CONTENT[:64] in person.get(FILE).body) == (status, False)
        assert engineer.entries[-1].outcome == "refused"


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a b.pdf", "attachment; filename=\"a b.pdf\"; filename*=UTF-8''a%20b.pdf"),
        ('"; x=".htm', "attachment; filename=\"__ x__.htm\"; filename*=UTF-8''%22%3B%20x%3D%22.htm"),
        ("Hämo.pdf", "attachment; filename=\"H_mo.pdf\"; filename*=UTF-8''H%C3%A4mo.pdf"),
    ],
)
def test_names_of_files_cannot_add_to_the_header(name: str, header: str) -> None:
    assert attachment(name) == header
