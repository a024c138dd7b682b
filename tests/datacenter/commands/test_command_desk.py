"""Commands are sent, approved and withdrawn: permissions, supported verbs, and recorded decisions."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from sqlalchemy import insert

from datacenter.access.control import AccessControl, AccessFiles
from datacenter.access.decision import Decision
from datacenter.commands.desk import (
    CommandConflictError,
    CommandDesk,
    CommandOrder,
    CommandRefusedError,
    SentFile,
    StaffActor,
)
from datacenter.commands.files import FileArchive
from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, instruments, sites
from tests.support.datacenter.store.batches import alert, batch, result

BOX, CHEM, MODULAR = "RAP-0001", "CHEM-0001", "MODU-0001"
NOW = 1_800_000_000_000
HOUR = 3_600_000
DIRECTORY = """
    [staff.engineer]
    roles = ["service-engineer"]
    scope = ["country/DE"]
    trainings = { chemistry-analyzer = 2030-01-01, modular-analyzer = 2030-01-01 }
    [staff.untrained]
    roles = ["service-engineer"]
    scope = ["country/DE"]
    [staff.specialist]
    roles = ["application-specialist", "supervisor"]
    scope = ["country/DE"]
    trainings = { chemistry-analyzer = 2030-01-01 }
    [staff.supervisor]
    roles = ["supervisor"]
    scope = ["country/DE"]
    [staff.abroad]
    roles = ["supervisor", "service-engineer"]
    scope = ["country/FR"]
    trainings = { chemistry-analyzer = 2030-01-01 }
"""
ENGINEER = StaffActor("engineer", "service")
SPECIALIST = StaffActor("specialist", "application-support")
SUPERVISOR = StaffActor("supervisor", "service")
ABROAD = StaffActor("abroad", "service")


@pytest.fixture
def decisions() -> list[Decision]:
    return []


@pytest.fixture
def desk(store: Store, tmp_path: Path, decisions: list[Decision]) -> CommandDesk:
    (tmp_path / "staff.toml").write_text(dedent(DIRECTORY))
    with store.transaction() as connection:
        connection.execute(
            insert(sites).values(site="north", name="North", country="DE", region="europe", zone="UTC")
        )
        connection.execute(boxes.update().where(boxes.c.serial == BOX).values(site="north"))
        for serial, model in ((CHEM, "chemistry-analyzer"), (MODULAR, "modular-analyzer")):
            values = {"run": 1, "number": 1, "at_ms": 0, "stored_at_ms": 0, "evaluation": b""}
            connection.execute(insert(instruments).values(box=BOX, serial=serial, model=model, **values))
    access = AccessControl(AccessFiles(tmp_path / "staff.toml"), decisions.append)
    return CommandDesk(store, FileArchive(store), access)


def order(verb: str, content: bytes = b"", **other: Any) -> CommandOrder:
    file = SentFile(BytesIO(content), "a.bin") if content else None
    return CommandOrder(verb, file, **other)  # type: ignore[arg-type]


def test_a_file_is_sent_with_the_command(desk: CommandDesk, store: Store, decisions: list[Decision]) -> None:
    row = desk.send(ENGINEER, BOX, CHEM, order("help-file", b"text"), NOW)
    assert (row.state, row.requester, row.file_bytes) == ("queued", "engineer", 4)
    assert row.expires_at_ms == NOW + 168 * HOUR
    assert desk.archive.content(row.file or "") == b"text"
    assert [(each.request.action, each.request.resource.kind, each.permitted) for each in decisions] == [
        ("view", "Instrument", True),
        ("send-file", "Instrument", True),
        ("send-file", "File", True),
    ]
    assert decisions[-1].request.resource.id == row.file
    assert decisions[-1].reason == "help-file of 4 bytes for CHEM-0001 at RAP-0001"
    (sent,) = store.ingest(BOX, batch(alert(1)), NOW).commands
    assert (sent.id, sent.verb) == (row.id, "help-file")


@pytest.mark.parametrize(
    ("actor", "instrument", "verb", "content", "reason"),
    [
        (StaffActor("nobody", "service"), CHEM, "send-inventory", b"", "there is no instrument CHEM-0001"),
        (ABROAD, CHEM, "send-inventory", b"", "there is no instrument CHEM-0001 at box RAP-0001"),
        (ENGINEER, "CHEM-0009", "send-inventory", b"", "there is no instrument CHEM-0009"),
        (StaffActor("untrained", "service"), CHEM, "send-inventory", b"", "require a valid training"),
        (StaffActor("engineer", "monitoring"), CHEM, "help-file", b"x", "no policy permits"),
        (ENGINEER, CHEM, "assay-configuration", b"x", "no policy permits"),
        (
            ENGINEER,
            MODULAR,
            "help-file",
            b"x",
            "do not support help-file; they support: send-inventory, data-upload",
        ),
        (ENGINEER, CHEM, "help-file", b"", "help-file needs a file"),
        (ENGINEER, CHEM, "send-inventory", b"x", "send-inventory takes no file"),
    ],
)
def test_forbidden_commands_are_refused(
    desk: CommandDesk, actor: StaffActor, instrument: str, verb: str, content: bytes, reason: str
) -> None:
    with pytest.raises(CommandRefusedError, match=reason):
        desk.send(actor, BOX, instrument, order(verb, content), NOW)
    assert desk.list(SUPERVISOR, NOW) == []


def test_a_dangerous_command_waits_for_a_second_person(
    desk: CommandDesk, store: Store, decisions: list[Decision]
) -> None:
    row = desk.send(SPECIALIST, BOX, CHEM, order("assay-configuration", b"assays"), NOW)
    assert decisions[-1].reason.endswith("for CHEM-0001 at RAP-0001, waiting for approval")
    assert row.state == "waiting for approval"
    assert store.ingest(BOX, batch(alert(1)), NOW).commands == []
    with pytest.raises(CommandRefusedError, match="nobody approves a change that they requested"):
        desk.approve(SPECIALIST, row.id, NOW + 1)
    with pytest.raises(CommandRefusedError):
        desk.approve(ENGINEER, row.id, NOW + 1)
    approved = desk.approve(SUPERVISOR, row.id, NOW + 2)
    assert (approved.state, approved.approved_by) == ("queued", "supervisor")
    assert len(store.ingest(BOX, batch(alert(2), first=2), NOW + 3).commands) == 1
    with pytest.raises(CommandRefusedError, match="is not waiting for approval: it is queued"):
        desk.approve(SUPERVISOR, row.id, NOW + 4)


def test_an_expired_command_cannot_be_approved(desk: CommandDesk, store: Store) -> None:
    row = desk.send(SPECIALIST, BOX, CHEM, order("test-menu", b"assays", hours=1), NOW)
    with pytest.raises(CommandRefusedError):
        desk.approve(SUPERVISOR, row.id, NOW + HOUR)
    store.expire_commands(NOW + HOUR)
    assert desk.read(row.id).state == "expired"


def test_a_command_that_was_never_sent_is_withdrawn_at_once(desk: CommandDesk, store: Store) -> None:
    row = desk.send(ENGINEER, BOX, CHEM, order("send-inventory", b""), NOW)
    with pytest.raises(CommandRefusedError, match="there is no command"):
        desk.withdraw(ABROAD, row.id, NOW)
    assert desk.withdraw(ENGINEER, row.id, NOW).state == "withdrawn"
    reply = store.ingest(BOX, batch(alert(1)), NOW)
    assert (reply.commands, reply.withdrawn) == ([], [])


@pytest.mark.parametrize("is_sent", [False, True])
def test_ending_a_command_ends_no_other(desk: CommandDesk, store: Store, is_sent: bool) -> None:
    rows = [
        desk.send(ENGINEER, BOX, CHEM, order("send-inventory", hours=hours), NOW) for hours in (48, 48, 1)
    ]
    if is_sent:
        assert len(store.ingest(BOX, batch(alert(1)), NOW).commands) == 3
    desk.withdraw(SUPERVISOR, rows[0].id, NOW)
    store.expire_commands(NOW + HOUR)
    texts = [desk.read(row.id).text for row in rows]
    if is_sent:
        assert texts == ["queued, to be withdrawn", "queued", "queued, to be expired"]
        assert store.ingest(BOX, batch(alert(2), first=2), NOW + HOUR).withdrawn == [rows[0].id, rows[2].id]
    else:
        assert texts == ["withdrawn", "queued", "expired"]


def test_a_command_on_the_box_is_withdrawn_when_the_box_reports_it(desk: CommandDesk, store: Store) -> None:
    row = desk.send(ENGINEER, BOX, CHEM, order("send-inventory", b""), NOW)
    store.ingest(BOX, batch(alert(1)), NOW)
    assert desk.withdraw(SUPERVISOR, row.id, NOW).text == "queued, to be withdrawn"
    reply = store.ingest(BOX, batch(alert(2), first=2), NOW)
    assert (reply.commands, reply.withdrawn) == ([], [row.id])
    store.ingest(BOX, batch(result(1, row.id, "withdrawn"), instrument="", run=0, first=3), NOW)
    assert desk.read(row.id).state == "withdrawn"


def test_the_file_of_an_upload_is_downloaded_once_it_is_complete(desk: CommandDesk) -> None:
    row = desk.send(ENGINEER, BOX, CHEM, order("data-upload", b""), NOW)
    with pytest.raises(CommandRefusedError, match="has no complete file"):
        desk.download(ENGINEER, row.id, NOW)
    row = desk.send(ENGINEER, BOX, CHEM, order("help-file", b"text"), NOW)
    file = desk.download(ENGINEER, row.id, NOW)
    assert (file.name, file.size, b"".join(file.read())) == ("a.bin", 4, b"text")


def test_a_repeated_request_has_one_effect(desk: CommandDesk) -> None:
    first = desk.send(ENGINEER, BOX, CHEM, order("help-file", b"text", key="k"), NOW)
    again = desk.send(ENGINEER, BOX, CHEM, order("help-file", b"text", key="k"), NOW + 1)
    assert again == first
    for other in (order("help-file", b"other", key="k"), order("send-inventory", key="k")):
        with pytest.raises(CommandConflictError, match=f"used for command {first.id}, which differs"):
            desk.send(ENGINEER, BOX, CHEM, other, NOW + 2)
    assert desk.send(SPECIALIST, BOX, CHEM, order("help-file", b"text", key="k"), NOW).id != first.id
    assert len(desk.list(SUPERVISOR, NOW)) == 2


def test_a_command_that_cannot_be_queued_leaves_no_file(
    desk: CommandDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise StoreError("the database failed")

    monkeypatch.setattr(Store, "queue_within", fail)
    with pytest.raises(StoreError):
        desk.send(ENGINEER, BOX, CHEM, order("help-file", b"text"), NOW)
    assert desk.archive.content(hashlib.sha256(b"text").hexdigest()) is None


@pytest.mark.parametrize(
    ("given", "kept"), [("C:\\a\\help.pdf", "help.pdf"), ("../x\n.pdf", "x.pdf"), ("ä" * 200, "ä" * 120)]
)
def test_the_name_of_a_file_has_no_folder_and_is_printable(desk: CommandDesk, given: str, kept: str) -> None:
    sent = CommandOrder("help-file", SentFile(BytesIO(b"text"), given))
    assert desk.send(ENGINEER, BOX, CHEM, sent, NOW).file_name == kept


def test_pages_of_the_lists_join_without_gap_or_repetition(desk: CommandDesk) -> None:
    for number in range(5):
        desk.send(ENGINEER, BOX, CHEM, order("help-file", f"{number // 2}".encode()), NOW + number // 4)
        desk.send(ENGINEER, BOX, CHEM, order("send-inventory"), NOW)
    numbers = [row.id for row in desk.list(SUPERVISOR, NOW)]
    parts, before = list[int](), None
    while part := desk.list(SUPERVISOR, NOW, limit=3, before=before):
        parts, before = [*parts, *(row.id for row in part)], part[-1].id
    assert parts == numbers == sorted(numbers, reverse=True)
    assert [row.id for row in desk.list(SUPERVISOR, NOW, limit=3, after=numbers[5])] == numbers[2:5]
    files = desk.list_files(SUPERVISOR, NOW)
    assert [row.commands for row in sorted(files, key=lambda row: row.command.id)] == [2, 2, 1]
    for index, row in enumerate(files):
        assert desk.list_files(SUPERVISOR, NOW, limit=1, before=row.key) == files[index + 1 : index + 2]
        assert desk.list_files(SUPERVISOR, NOW, limit=9, after=row.key) == files[:index]
    assert desk.list_files(ABROAD, NOW) == []
