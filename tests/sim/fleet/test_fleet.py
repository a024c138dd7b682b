"""The simulated fleet: the history of its boxes in a data center's database, and the batches of its boxes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from datacenter.evaluation.triggerset import TriggerSet
from datacenter.fleet.completeness import stream_completeness
from datacenter.store import queries
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, chunks, instruments, sites
from rap.__main__ import main
from sim.fleet.box import FleetBox
from sim.fleet.past import create_fleet, merge, write_past
from sim.fleet.plan import Outage, PlannedBox, plan_fleet
from sim.units import DAY_NS, HOUR_NS, MILLISECOND_NS
from tests.support.eventually import WAIT_SECONDS_MAX
from wire.messages import Gap, sequences

START_MS = 20_400 * 86_400_000
HOUR_MS = HOUR_NS // MILLISECOND_NS


def planned(*outages: Outage) -> PlannedBox:
    return plan_fleet(2, 5, seed=3)[0]._replace(outages=outages)


def test_a_fleet_has_the_requested_number_of_instruments_and_follows_from_its_seed() -> None:
    plan = plan_fleet(200, 30, seed=1)
    serials = [one.serial for box in plan for one in box.instruments]
    assert len(serials) == len(set(serials)) == 200
    assert len({box.place for box in plan}) >= 20
    assert {box.place.region for box in plan} == {"europe", "america", "asia"}
    assert plan == plan_fleet(200, 30, seed=1) != plan_fleet(200, 30, seed=2)
    for box in plan:
        ends = [0, *(time for one in box.outages for time in one[:2])]
        assert ends == sorted(ends)


def test_a_box_sends_its_backlog_after_an_outage() -> None:
    outage = Outage(2 * HOUR_NS, 5 * HOUR_NS, loses_records=False)
    box = FleetBox(planned(outage), 3, START_MS)
    before = list(box.until(4 * HOUR_NS))
    assert max(one.at_ms for one in before) < START_MS + 3 * HOUR_MS
    after = list(box.until(6 * HOUR_NS))
    assert after[0].at_ms > START_MS + 5 * HOUR_MS
    assert min(record.entry.body.at_ms for record in after[0].batch.records) < START_MS + 3 * HOUR_MS
    numbers = [number for one in (*before, *after) for number in sequences(one.batch)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_box_reports_its_lost_records() -> None:
    box = FleetBox(planned(Outage(2 * HOUR_NS, 5 * HOUR_NS, loses_records=True)), 3, START_MS)
    sent = list(box.until(6 * HOUR_NS))
    present = {number for one in sent for number in sequences(one.batch)}
    (gap,) = (
        record.entry.body
        for one in sent
        for record in one.batch.records
        if isinstance(record.entry.body, Gap)
    )
    ((first, last),) = gap.ranges
    assert set(range(1, max(present) + 1)) - present == set(range(first, last + 1))
    assert gap.records == last - first + 1


def test_the_batches_do_not_depend_on_the_steps_of_the_simulation() -> None:
    plan = planned(Outage(2 * HOUR_NS, 5 * HOUR_NS, loses_records=True))
    continuous = FleetBox(plan, 3, START_MS)
    stepped = FleetBox(plan, 3, START_MS)
    at_once = [record.entry for one in continuous.until(8 * HOUR_NS) for record in one.batch.records]
    in_steps = [
        record.entry
        for hour in range(1, 9)
        for one in stepped.until(hour * HOUR_NS)
        for record in one.batch.records
    ]
    assert at_once == in_steps


def test_the_history_of_all_boxes_is_in_one_database(tmp_path: Path) -> None:
    plan = plan_fleet(5, 4, seed=3)
    database = tmp_path / "datacenter.db"
    store = Store(f"sqlite:///{database}")
    create_fleet(store, plan, START_MS)
    for box in plan:
        part = tmp_path / f"{box.serial}.db"
        write_past(FleetBox(box, 3, START_MS), part, TriggerSet([]), START_MS, 4 * DAY_NS)
        merge(database, part)
    assert [*store.read(select(func.count()).select_from(sites))] == [(len(plan),)]
    assert [*store.read(select(func.count()).where(boxes.c.site.is_(None)))] == [(0,)]
    assert [*store.read(select(func.count()).select_from(instruments))] == [(5,)]
    for box in plan:
        (stream,) = stream_completeness(store, box.serial, "")
        rows = sum(count for (serial, _), count in queries.counts(store).items() if serial == box.serial)
        archived = next(store.read(select(func.sum(chunks.c.statuses)).where(chunks.c.box == box.serial)))[0]
        assert archived > 0
        assert stream.stored == rows + archived
        assert not stream.missing
    store.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--instruments", "0"], "--instruments 0: give a number from 1 to 20000"),
        (["--days", "0"], "--days 0: give a number of days from 1 to 365"),
        (["--speed", "0"], "--speed 0: give a factor above 0 and up to 1000"),
        (["--port", "70000"], "--port 70000: give a port from 0 to 65535"),
    ],
)
def test_a_wrong_argument_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dc", "demo", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_with_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").touch()
    assert main(["dc", "demo", "--port", "0", "--directory", str(tmp_path)]) == 2
    assert "is not empty; give a new or empty folder" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["other"]


@pytest.mark.slow("starts the data center's program and the processes of a fleet")
def test_the_demonstration_serves_until_an_interrupt(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rap", "dc", "demo", "--instruments", "5", "--days", "1", "--port", "0"]
    with subprocess.Popen(
        [*command, "--directory", str(tmp_path / "demo")], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        try:
            lines = [program.stdout.readline()]
            while lines[-1] not in ("", "Ctrl-C ends it.\n"):
                lines.append(program.stdout.readline())
            program.send_signal(signal.SIGINT)
            assert (program.wait(WAIT_SECONDS_MAX), lines[-1]) == (0, "Ctrl-C ends it.\n")
        finally:
            program.kill()
    store = Store(f"sqlite:///{tmp_path / 'demo' / 'datacenter.db'}")
    assert [*store.read(select(func.count()).select_from(instruments))] == [(5,)]
    store.close()
