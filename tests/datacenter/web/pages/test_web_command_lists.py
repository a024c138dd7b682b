"""The lists of commands and files: paging by keys with the filters in the URL, and only permitted rows."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest

from datacenter.commands.files import FileArchive
from datacenter.store.tables.schema import commands, files
from datacenter.web.pages.commands import PAGE_SIZE
from tests.support.datacenter.web.client import WebClient
from tests.support.datacenter.web.fleet import COMMAND, NOW_MS

OF_CHEM = "RAP-0001", "CHEM-0001"
CHOSEN = "state=queued&instrument=CHEM-0001"


def link(text: str, name: str) -> str | None:
    """Return the URL of the link with this text, None if there is no such link."""
    match = re.search(rf'<a href="([^"]*)"[^>]*>{name}</a>', text)
    return html.unescape(match[1]) if match else None


def numbers(text: str) -> list[int]:
    return [int(one) for one in re.findall(r'<tr><td class="right minor">([0-9]+)</td>', text)]


def names(text: str) -> list[str]:
    return re.findall(r'<th scope="row">(?:<a [^>]*>)?([^<]+)<', text)


def send_many(web: WebClient, count: int, **columns: Any) -> None:
    assert web.store is not None
    for _ in range(count):
        web.store.queue_command(*OF_CHEM, "send-inventory", b"", NOW_MS, **{**COMMAND, **columns})


def store_many(web: WebClient, count: int) -> None:
    """Store files, each two of them at the same time."""
    assert web.store is not None
    archive = FileArchive(web.store)
    for number in range(count):
        sha256 = archive.keep(f"{number}".encode(), NOW_MS + number // 2)
        file: dict[str, Any] = {"file": sha256, "file_bytes": 1, "file_name": f"{number}.pdf"}
        web.store.queue_command(*OF_CHEM, "help-file", b"", NOW_MS, **{**COMMAND, **file})


def walk(person: WebClient, target: str | None, step: str, shown: Callable[[str], list[int]]) -> list[int]:
    """Follow the links with the text `step`; return the numbers that `shown` finds on all pages."""
    visited: list[int] = []
    while target is not None:
        text = person.get(target).text
        visited += shown(text)
        target = link(text, step)
    return visited


def test_older_commands_follow_one_by_one_and_keep_the_filters(changing: WebClient) -> None:
    send_many(changing, 2 * PAGE_SIZE + 3)
    send_many(changing, 2, state="done")
    engineer = changing.sign_in("engineer")
    everything = walk(engineer, f"/commands?{CHOSEN}", "Older commands", numbers)
    assert everything == [*range(2 * PAGE_SIZE + 6, 3, -1), 1]
    first = engineer.get(f"/commands?{CHOSEN}").text
    second = link(first, "Older commands")
    assert second is not None and CHOSEN in second
    third = link(engineer.get(second).text, "Older commands")
    assert third is not None
    back = link(engineer.get(third).text, "Newer commands")
    assert back is not None
    assert numbers(engineer.get(back).text) == everything[PAGE_SIZE : 2 * PAGE_SIZE]
    begin = link(engineer.get(back).text, "Newer commands")
    assert begin is not None
    assert numbers(engineer.get(begin).text) == everything[:PAGE_SIZE]
    assert link(engineer.get(begin).text, "Newer commands") is None


def test_commands_sent_meanwhile_do_not_shift_the_pages(changing: WebClient) -> None:
    send_many(changing, PAGE_SIZE)
    engineer = changing.sign_in("engineer")
    older = link(engineer.get("/commands").text, "Older commands")
    assert older is not None
    before = numbers(engineer.get(older).text)
    send_many(changing, 9)
    assert numbers(engineer.get(older).text) == before == [3, 2, 1]


def test_the_newest_page_is_full(changing: WebClient) -> None:
    send_many(changing, PAGE_SIZE)
    text = changing.sign_in("engineer").get(f"/commands?after={PAGE_SIZE + 1}").text
    assert len(numbers(text)) == PAGE_SIZE
    assert link(text, "Newer commands") is None and link(text, "Older commands") is not None


def test_a_page_beyond_the_oldest_command_links_to_the_newest(changing: WebClient) -> None:
    text = changing.sign_in("engineer").get("/commands?before=1").text
    assert "There are no older commands" in text and link(text, "Show the newest ones.") == "/commands"


@pytest.mark.parametrize("target", ["/commands?before=0", "/commands?after=x", "/files?before=x"])
def test_a_wrong_key_is_refused(web: WebClient, target: str) -> None:
    assert web.sign_in("engineer").get(target).status == 400


def test_files_of_one_moment_are_all_listed_once(changing: WebClient) -> None:
    store_many(changing, 2 * PAGE_SIZE + 3)
    engineer = changing.sign_in("engineer")
    stored = walk(
        engineer, "/files", "Older files", lambda text: [int(one[:-4]) for one in names(text) if "pdf" in one]
    )
    assert sorted(stored) == list(range(2 * PAGE_SIZE + 3))
    assert [one // 2 for one in stored] == sorted((one // 2 for one in stored), reverse=True)
    oldest = link(engineer.get("/files").text, "Older files")
    assert oldest is not None
    back = link(engineer.get(oldest).text, "Newer files")
    assert back is not None
    assert names(engineer.get(back).text) == names(engineer.get("/files").text)


def test_a_file_is_listed_once_with_its_latest_command(changing: WebClient) -> None:
    assert changing.store is not None
    sha256 = FileArchive(changing.store).keep(b"help", NOW_MS)
    for name in ("old.pdf", "new.pdf"):
        file: dict[str, Any] = {"file": sha256, "file_bytes": 4, "file_name": name}
        changing.store.queue_command(*OF_CHEM, "help-file", b"", NOW_MS, **{**COMMAND, **file})
    text = changing.sign_in("european").get("/files").text
    assert names(text) == ["CHEM-0001-assay-configuration-3.bin", "new.pdf"]
    assert "one of 2 commands with this file" in text
    assert "one of 3 commands" in changing.sign_in("engineer").get("/files").text


def test_a_list_of_files_has_the_direction_and_only_what_may_be_seen(changing: WebClient) -> None:
    assert changing.store is not None
    file: dict[str, Any] = {"file": FileArchive(changing.store).keep(b"data", NOW_MS), "file_bytes": 4}
    changing.store.queue_command(*OF_CHEM, "data-upload", b"", NOW_MS, **{**COMMAND, **file})
    engineer, european = changing.sign_in("engineer"), changing.sign_in("european")
    assert names(engineer.get("/files?direction=from-instrument").text) == ["CHEM-0001-data-upload-4.bin"]
    assert "from the instrument, 4 bytes</span>" in engineer.get("/files?direction=from-instrument").text
    assert len(names(engineer.get("/files").text)) == 3
    assert len(names(european.get("/files").text)) == 2
    assert "GAS-0001" not in european.get("/files").text
    observer = changing.sign_in("observer").get("/files").text
    assert len(names(observer)) == 3 and "download>" not in observer
    assert "No file matches" in engineer.get("/files?instrument=HEMA-0001").text


def test_without_files_the_page_says_what_to_do(changing: WebClient) -> None:
    assert changing.store is not None
    with changing.store.transaction() as connection:
        connection.execute(commands.delete())
        connection.execute(files.delete())
    assert (
        "There is no file. Open the page of an instrument" in changing.sign_in("engineer").get("/files").text
    )
