"""Each instrument of a model gets the help files of a data release once, when its box has the release."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from datacenter.commands.files import FileArchive
from datacenter.releases.folder import ReleaseFolder
from datacenter.releases.help_files import HelpFileSender
from datacenter.releases.plan import RolloutPlan
from datacenter.releases.runner import change_state
from datacenter.releases.states import RolloutEvent
from datacenter.store.store import Store
from datacenter.store.tables.schema import audit, box_releases, commands, instruments, rollouts
from imaging.release.data import release_data
from imaging.release.repository import NewRelease, ReleaseError, ReleaseRepository, RoleKeyFiles
from tests.support.datacenter.rollouts import START_MS, SimulatedFleet
from tests.support.imaging.releases import NOW, released
from wire.files import FileReference
from wire.messages import decode

BOX, OTHER = "RAP-0001", "RAP-0002"
MODEL = "chemistry-analyzer"
FIRST, SECOND = b"How to clear an error.", b"How to clear an error, corrected."


class Center:
    """A data center that serves data releases to two boxes, each with one instrument of each of two models."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.store, self._folder = store, folder
        repository, keys = released(folder, ())
        self._repository: ReleaseRepository = repository
        self._keys: RoleKeyFiles = keys
        self._releases = ReleaseFolder(repository.folder)
        self.archive = FileArchive(store)
        self.sender = HelpFileSender(self._releases, self.archive)
        self.fleet = SimulatedFleet(store, self._releases.current)
        self.fleet.add(BOX, OTHER)
        for box in (BOX, OTHER):
            for model in (MODEL, "hematology-analyzer"):
                self.connect(box, f"{model[:4]}-{box[-1]}", model)

    def connect(self, box: str, serial: str, model: str) -> None:
        values = {"run": 1, "number": 1, "at_ms": 0, "stored_at_ms": 0, "evaluation": b""}
        with self.store.transaction() as connection:
            connection.execute(insert(instruments).values(box=box, serial=serial, model=model, **values))

    def release(self, number: int, content: bytes, path: str = f"help/{MODEL}/errors.txt") -> int:
        """Release a help file, and start its rollout; return the rollout's number."""
        (file := self._folder / f"files-{number}" / path).parent.mkdir(parents=True)
        file.write_bytes(content)
        release = NewRelease(f"data-{number}", number, 0)
        release_data(self._repository, self._folder / f"files-{number}", release, self._keys, NOW)
        self._releases.refresh(NOW.timestamp())
        return self.fleet.start(RolloutPlan(release=number), "data")

    def put_in_force(self, number: int, *boxes: str) -> None:
        with self.store.transaction() as connection:
            connection.execute(update(box_releases).where(box_releases.c.box.in_(boxes)).values(data=number))

    def sent(self) -> list[tuple[str, str, bytes | None]]:
        """Queue the due commands; return box, instrument and file content of all commands, in their order."""
        self.sender.send(self.store, START_MS)
        rows = self.store.read(select(commands).order_by(commands.c.id))
        files = [(row.box, row.instrument, decode(FileReference, row.body)) for row in rows]
        return [(box, serial, self.archive.content(reference.sha256)) for box, serial, reference in files]


@pytest.fixture
def center(tmp_path: Path) -> Iterator[Center]:
    with closing(Store(f"sqlite:///{tmp_path / 'store.db'}")) as store:
        yield Center(tmp_path, store)


def test_instruments_of_the_model_get_the_file_when_their_box_has_the_release(center: Center) -> None:
    number = center.release(5, FIRST)
    assert center.sent() == []
    center.put_in_force(5, BOX)
    assert center.sent() == [(BOX, "chem-1", FIRST)]
    center.put_in_force(5, OTHER)
    assert center.sent() == [(BOX, "chem-1", FIRST), (OTHER, "chem-2", FIRST)]
    (row, _) = center.store.read(select(commands).order_by(commands.c.id))
    assert (row.verb, row.state, row.file_name, row.file) == (
        "help-file",
        "queued",
        "errors.txt",
        sha256(FIRST).hexdigest(),
    )
    assert (row.requester, row.purpose) == ("engineer", "service")
    texts = [row.reason for row in center.store.read(select(audit)) if row.action == "send-file"]
    assert texts == [f"errors.txt of release 5 for 1 instruments of model {MODEL}"] * 2
    assert number == 1


def test_instruments_get_a_file_once_also_those_connected_later(center: Center) -> None:
    center.release(5, FIRST)
    center.put_in_force(5, BOX)
    center.sent()
    center.release(6, FIRST)
    center.put_in_force(6, BOX)
    assert center.sent() == [(BOX, "chem-1", FIRST)]
    center.connect(BOX, "chem-9", MODEL)
    assert center.sent() == [(BOX, "chem-1", FIRST), (BOX, "chem-9", FIRST)]


def test_a_changed_file_is_sent_again_also_one_that_is_changed_back(center: Center) -> None:
    for number, content in ((5, FIRST), (6, SECOND), (7, FIRST)):
        center.release(number, content)
        center.put_in_force(number, BOX)
        center.sent()
    assert center.sent() == [(BOX, "chem-1", content) for content in (FIRST, SECOND, FIRST)]


@pytest.mark.parametrize("event", ["withdraw", "stop"])
def test_a_rollout_that_was_ended_sends_nothing_more(center: Center, event: RolloutEvent) -> None:
    number = center.release(5, FIRST)
    center.put_in_force(5, BOX)
    with center.store.transaction() as connection:
        change_state(connection, number, event, "", START_MS)
    assert center.sent() == []


def test_a_finished_rollout_still_brings_files_to_new_instruments(center: Center) -> None:
    center.release(5, FIRST)
    with center.store.transaction() as connection:
        connection.execute(update(rollouts).values(state="done"))
    center.put_in_force(5, BOX)
    assert center.sent() == [(BOX, "chem-1", FIRST)]


def test_a_file_without_a_model_waits_for_commands_of_staff(center: Center) -> None:
    center.release(5, FIRST, "help/errors.txt")
    center.put_in_force(5, BOX)
    assert center.sent() == []


def test_a_file_for_an_unknown_model_is_not_released(center: Center) -> None:
    with pytest.raises(
        ReleaseError, match=r"help/no-analyzer/errors.txt: there is no model no-analyzer; give one of"
    ):
        center.release(5, FIRST, "help/no-analyzer/errors.txt")
