"""The audit log is complete, its manipulation is detected, and all processes append to one hash chain."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert, text, update

from datacenter.access.control import AccessControl, AccessFiles
from datacenter.access.request import RequestContext, Resource
from datacenter.audit.chain import FIELD_CHARACTERS_MAX, AuditEntry, chained
from datacenter.audit.trail import AuditTrail
from datacenter.store.store import Store
from datacenter.store.tables.schema import audit, audit_head
from rap.__main__ import main
from tests.support.datacenter.programs import configure
from wire.hash_chain import START, ChainHead, parse_head

ENTRY = AuditEntry(
    1, "engineer", "", "view", "Site", "s", "country/DE", "service", "permitted", "view-in-scope", "r"
)


@pytest.fixture
def trail(store: Store) -> AuditTrail:
    return AuditTrail(store)


@pytest.fixture
def filled(trail: AuditTrail) -> AuditTrail:
    for number in range(6):
        trail.append([replace(ENTRY, at_ms=number)])
    return trail


def tamper(store: Store, *statements: str) -> None:
    """Execute statements after the triggers that protect the log are removed or disabled."""
    with store.transaction() as connection:
        if connection.dialect.name == "sqlite":
            for row in connection.execute(
                text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            ).all():
                connection.execute(text(f"DROP TRIGGER {row.name}"))
        else:
            for table in ("audit", "audit_head"):
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        for statement in statements:
            connection.execute(text(statement))


def test_entries_are_appended_in_one_chain(trail: AuditTrail) -> None:
    assert trail.head() == ChainHead(0, START)
    assert trail.append([]) == ChainHead(0, START)
    first = trail.append([ENTRY, ENTRY])
    assert first.number == 2
    assert trail.append([ENTRY]).number == 3
    assert trail.problems([first]) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET reason = 'x' WHERE number = 3",
        "UPDATE audit SET number = 99 WHERE number = 3",
        "DELETE FROM audit WHERE number = 6",
        "DELETE FROM audit",
        "UPDATE audit_head SET number = 5",
        "UPDATE audit_head SET hash = 'x'",
        "DELETE FROM audit_head",
    ],
)
def test_the_database_refuses_changes(store: Store, filled: AuditTrail, statement: str) -> None:
    with pytest.raises(Exception, match="cannot"), store.transaction() as connection:
        connection.execute(text(statement))
    assert filled.problems() == []
    assert filled.head().number == 6


def test_the_database_refuses_to_replace_a_record(store: Store, filled: AuditTrail) -> None:
    values = {
        "number": 3,
        "previous": START,
        "hash": START,
        **{c.name: "x" for c in audit.c if c.name not in ("number", "at_ms", "previous", "hash")},
    }
    for prefix in ("OR REPLACE", ""):
        statement = insert(audit).values(**values, at_ms=1)
        with pytest.raises(Exception, match=r"appended|unique|syntax"), store.transaction() as connection:
            connection.execute(statement.prefix_with(prefix) if prefix else statement)
    assert filled.problems() == []


def test_postgresql_refuses_to_truncate_the_log(empty_postgres: str) -> None:
    store = Store(empty_postgres)
    trail = AuditTrail(store)
    trail.append([ENTRY])
    for table in ("audit", "audit_head"):
        with (
            pytest.raises(Exception, match="cannot be changed or removed"),
            store.transaction() as connection,
        ):
            connection.execute(text(f"TRUNCATE {table}"))
    assert trail.problems() == []
    store.close()


TAMPERED = [
    (["UPDATE audit SET reason = 'x' WHERE number = 3"], ["record 3 was changed"]),
    (["UPDATE audit SET outcome = 'refused' WHERE number = 1"], ["record 1 was changed"]),
    (["UPDATE audit SET at_ms = at_ms + 1 WHERE number = 6"], ["record 6 was changed"]),
    (["DELETE FROM audit WHERE number = 1"], ["record 1 is missing"]),
    (["DELETE FROM audit WHERE number IN (3, 4)"], ["records 3 to 4 are missing"]),
    (["DELETE FROM audit WHERE number = 6"], ["record 6 is missing"]),
    (["DELETE FROM audit WHERE number > 2"], ["records 3 to 6 are missing"]),
    (["DELETE FROM audit"], ["records 1 to 6 are missing"]),
    (["UPDATE audit_head SET number = 5"], ["the head was changed"]),
    (["DELETE FROM audit_head"], ["the head was changed"]),
    (
        [
            "UPDATE audit SET number = 99 WHERE number = 3",
            "UPDATE audit SET number = 3 WHERE number = 4",
            "UPDATE audit SET number = 4 WHERE number = 99",
        ],
        [
            "record 3 does not follow",
            "record 3 was changed",
            "record 4 does not follow",
            "record 4 was changed",
            "record 5 does not follow",
        ],
    ),
    (
        ["DELETE FROM audit WHERE number = 3", "UPDATE audit SET number = number - 1 WHERE number > 3"],
        [
            "record 3 does not follow",
            "record 3 was changed",
            "record 4 was changed",
            "record 5 was changed",
            "record 6 is missing",
        ],
    ),
]


@pytest.mark.parametrize(("statements", "expected"), TAMPERED)
def test_a_changed_log_is_found(
    store: Store, filled: AuditTrail, statements: list[str], expected: list[str]
) -> None:
    tamper(store, *statements)
    problems = filled.problems()
    assert len(problems) == len(expected), problems
    assert all(part in problem for part, problem in zip(expected, problems, strict=True)), problems


def test_a_chain_that_was_computed_anew_is_found_by_a_head_noted_before(
    store: Store, filled: AuditTrail
) -> None:
    noted = filled.head()
    tamper(store, "DELETE FROM audit")
    rows = list(
        chained(ChainHead(0, START), [replace(ENTRY, actor="bo", at_ms=number) for number in range(6)])
    )
    with store.transaction() as connection:
        for row in rows:
            values = {**row.entry.__dict__, "number": row.number, "previous": row.previous, "hash": row.hash}
            connection.execute(insert(audit).values(values))
        connection.execute(update(audit_head).values(number=6, hash=rows[-1].hash))
    assert filled.problems() == []
    assert filled.problems([noted]) == [
        "record 6 is not the one whose hash was saved: the log was replaced up to this record"
    ]


def test_a_log_that_was_cut_with_its_head_is_found_by_a_head_noted_before(
    store: Store, filled: AuditTrail
) -> None:
    noted = filled.head()
    with store.transaction() as connection:
        hash_of_4 = connection.execute(text("SELECT hash FROM audit WHERE number = 4")).scalar_one()
    tamper(
        store, "DELETE FROM audit WHERE number > 4", f"UPDATE audit_head SET number = 4, hash = '{hash_of_4}'"
    )
    assert filled.problems() == []
    assert filled.problems([noted]) == ["records 5 to 6 are missing"]


@pytest.mark.parametrize("name", ["a\x00b", "\udc80", "x" * 10_000, "'; DROP TABLE audit; --", "\u2028", "é"])
def test_names_of_any_kind_can_be_recorded(trail: AuditTrail, name: str) -> None:
    trail.append([replace(ENTRY, actor=name, resource=name, reason=name)])
    assert trail.problems() == []
    assert len(replace(ENTRY, actor=name).cleaned().actor) <= FIELD_CHARACTERS_MAX


def test_each_decision_is_recorded_with_its_reason(store: Store, trail: AuditTrail, tmp_path: Path) -> None:
    file = tmp_path / "staff.toml"
    file.write_text('[staff.engineer]\nroles = ["viewer"]\nscope = ["country/DE"]\n')
    access = AccessControl(AccessFiles(file), trail.record)
    site = Resource("Site", "berlin", "berlin", "DE", "europe")
    access.decide("engineer", "view", site, RequestContext(5, "monitoring"))
    access.decide("engineer", "silence-site", site, RequestContext(6, "monitoring"))
    access.decide("eve\x00", "view", site, RequestContext(7, "audit"))
    rows = [tuple(row)[1:12] for row in store.read(audit.select().order_by(audit.c.number))]
    location = "site/berlin, country/DE, region/europe"
    refused = (
        "no policy permits engineer to silence all alerts of Site berlin: engineer lacks the role supervisor"
    )
    assert rows == [
        (
            5,
            "engineer",
            "",
            "view",
            "Site",
            "berlin",
            location,
            "monitoring",
            "permitted",
            "view-in-scope",
            "permitted by policy view-in-scope",
        ),
        (6, "engineer", "", "silence-site", "Site", "berlin", location, "monitoring", "refused", "", refused),
        (
            7,
            "eve\ufffd",
            "",
            "view",
            "Site",
            "berlin",
            location,
            "audit",
            "refused",
            "",
            "there is no eve\ufffd in the staff directory",
        ),
    ]
    assert trail.problems() == []


def test_threads_append_to_one_chain(empty_postgres: str) -> None:
    Store(empty_postgres).close()
    failures: list[BaseException] = []

    def write() -> None:
        store = Store(empty_postgres)
        try:
            for number in range(15):
                AuditTrail(store).append([replace(ENTRY, at_ms=number)] * 2)
        except BaseException as error:
            failures.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=write) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = Store(empty_postgres)
    assert failures == []
    assert AuditTrail(store).head().number == 150
    assert AuditTrail(store).problems() == []
    store.close()


WRITER = """
import sys
from datacenter.audit.chain import AuditEntry
from datacenter.audit.trail import AuditTrail
from datacenter.store.store import Store
trail = AuditTrail(Store(sys.argv[1]))
for number in range(20):
    trail.append([AuditEntry(number, *["x"] * 10)])
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_append_to_one_chain(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = (
        f"sqlite:///{tmp_path / 'a.db'}"
        if kind == "sqlite"
        else str(request.getfixturevalue("empty_postgres"))
    )
    store = Store(url)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, url]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert AuditTrail(store).head().number == 60
    assert AuditTrail(store).problems() == []
    store.close()


@pytest.fixture
def config(tmp_path: Path) -> Iterator[tuple[str, Store]]:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    file, _ = configure(tmp_path, url)
    store = Store(url)
    AuditTrail(store).append([ENTRY] * 3)
    yield str(file), store
    store.close()


def test_the_command_verifies_the_log(config: tuple[str, Store], capsys: pytest.CaptureFixture[str]) -> None:
    file, store = config
    assert main(["dc", "audit", "verify", "--config", file]) == 0
    line = capsys.readouterr().out.strip()
    assert line.startswith("3 audit records: complete and unchanged; head 3:")
    head = line.rpartition(" ")[2]
    tamper(store, "DELETE FROM audit WHERE number = 2")
    assert main(["dc", "audit", "verify", "--config", file, "--head", head]) == 1
    assert capsys.readouterr().out == "record 2 is missing\n"


@pytest.mark.parametrize("head", ["", "3", "x:" + START, "3:abc", "-1:" + START])
def test_a_wrong_head_is_refused(
    config: tuple[str, Store], head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dc", "audit", "verify", "--config", config[0], f"--head={head}"]) == 2
    assert "write it as NUMBER:HASH" in capsys.readouterr().err
    with pytest.raises(ValueError, match="NUMBER:HASH"):
        parse_head(head)
