"""`rap trigger why` prints the recomputation of an alert, and its exit status shows whether it confirms the alert."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, records
from rap.__main__ import main
from tests.support.datacenter.evaluation.arrivals import (
    BOX,
    STORED_MS,
    batch,
    evaluator,
    numbered,
    profile,
    status,
)
from tests.support.datacenter.programs import configure


@pytest.fixture
def alert(tmp_path: Path) -> tuple[str, str, str]:
    """The configuration of a data center, the URL of its database, and an alert in it."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    file, _ = configure(tmp_path, url)
    store = Store(url)
    store.authorize([BOX], 0)
    reports = [status(number, water=30 if number > 5 else 10) for number in range(1, 40)]
    numbers = numbered(profile(), *reports)
    for numbers_of_batch in (numbers[:4], numbers[4:]):
        store.ingest(BOX, batch(numbers_of_batch), STORED_MS)
    evaluator(store).advance(BOX, STORED_MS)
    (name,) = store.read(select(alerts.c.id))
    store.close()
    return str(file), url, name[0]


def test_the_condition_its_terms_and_the_confirmation_are_printed(
    alert: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    file, _, name = alert
    assert main(["trigger", "why", name, "--config", file]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "condition     water-conductivity-ns > 20" in lines
    assert any(line.startswith("lasts         30min, it held since 2026-") for line in lines)
    assert any(
        line.endswith("36 reports, of which 0 from the archive: run 1, number 1 to run 1, number 36")
        for line in lines
    )
    assert [line.split()[2:] for line in lines if "1/6 " in line] == [
        ["1/6", "30", "the", "condition", "holds"]
    ]
    assert [line.split()[2:] for line in lines if "1/36 " in line] == [
        ["1/36", "30", "the", "alert", "begins"]
    ]
    assert lines[-1].startswith("confirmed:")


def test_an_alert_that_the_reports_do_not_reproduce_is_not_confirmed(
    alert: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    file, url, name = alert
    store = Store(url)
    with store.transaction() as connection:
        connection.execute(update(alerts).values(began_at_ms=5))
    store.close()
    assert main(["trigger", "why", name, "--config", file, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert not document["confirmed"] and "recorded 5 ms" in document["differences"][0]


def test_without_the_oldest_reports_the_span_before_the_alert_is_evaluated(
    alert: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    file, url, name = alert
    store = Store(url)
    with store.transaction() as connection:
        connection.execute(delete(records).where(records.c.sequence == 4))
    store.close()
    assert main(["trigger", "why", name, "--config", file]) == 0
    captured = capsys.readouterr()
    assert "3 reports on which the alert can rest were deleted: run 1, numbers 1 to 3" in captured.err
    assert captured.out.splitlines()[-1].endswith("the values were not compared")


def test_without_the_oldest_reports_an_alert_can_only_be_confirmed(
    alert: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    file, url, name = alert
    store = Store(url)
    with store.transaction() as connection:
        connection.execute(delete(records).where(records.c.sequence == 4))
        connection.execute(update(alerts).values(began_at_ms=5))
    store.close()
    assert main(["trigger", "why", name, "--config", file]) == 2
    assert "3 reports on which the alert can rest were deleted" in capsys.readouterr().err


def test_unknown_alerts_and_deleted_reports_are_wrong_input(
    alert: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    file, url, name = alert
    assert main(["trigger", "why", "nothing", "--config", file]) == 2
    assert "there is no alert nothing" in capsys.readouterr().err
    store = Store(url)
    with store.transaction() as connection:
        connection.execute(delete(records))
    store.close()
    assert main(["trigger", "why", name, "--config", file]) == 2
    assert "was deleted: run 1, number 36; restore a backup" in capsys.readouterr().err
