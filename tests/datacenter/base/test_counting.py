"""The sums always equal those of the stored statuses, although reports arrive late and boxes move."""

from __future__ import annotations

from random import Random

import numpy as np
from sqlalchemy import delete, insert, or_, select, update

from datacenter.base.counting import count_all, count_changed, waiting_days
from datacenter.base.histogram import Histogram, added, decode_histogram
from datacenter.base.percentiles import INSTRUMENTS_MIN, percentiles_of, read_days
from datacenter.history.archive import archive, history
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import base_days, base_instruments, boxes, changed_days, instruments
from tests.support.datacenter.evaluation.base import BOXES, DAY, MODEL, READING, Fleet

PLACES = ["everywhere", "region/europe", "region/asia", "country/DE", "country/PT", "country/JP"]


def counted(store: Store) -> dict[tuple[str, int], tuple[int, list[list[int]]]]:
    """Return the sums by location and day: instruments, and the bins' values, readings and instruments."""
    c = base_days.c
    rows = store.read(
        select(c.place, c.day, c.instruments, c.body).where(c.model == MODEL, c.reading == READING)
    )
    return {(place, day): (count, bins(decode_histogram(body))) for place, day, count, body in rows}


def bins(one: Histogram) -> list[list[int]]:
    return [one.values.tolist(), one.readings.tolist(), one.instruments.tolist()]


def expected(store: Store, placed: dict[str, tuple[str, str]]) -> dict[tuple[str, int], object]:
    """Compute the same sums from all statuses; `placed` has the country and the region of each box."""
    parts: dict[tuple[str, int], list[Histogram]] = {}
    for box, serial in store.read(select(instruments.c.box, instruments.c.serial)):
        statuses = history(store, box, serial, 0, 2**52)
        for day in np.unique(statuses.at_ms // DAY_MS).tolist():
            of_day = statuses.chosen(statuses.at_ms // DAY_MS == day).readings[READING]
            country, region = placed[box]
            for place in ("everywhere", f"country/{country}", f"region/{region}"):
                histogram = Histogram.of_instrument(of_day.values[of_day.present])
                parts.setdefault((place, day), []).append(histogram)
    return {key: (len(histograms), bins(added(histograms))) for key, histograms in parts.items()}


PLACED = {box: (country, region) for box, (_, country, region) in BOXES.items()}


def test_the_sums_are_those_of_all_statuses_whatever_arrives_late(store: Store) -> None:
    fleet = Fleet(store)
    random = Random(4)
    for step in range(6):
        for box in random.sample(sorted(BOXES), 5):
            fleet.report(box, day=random.randrange(3), count=random.randint(1, 20), random=random)
        fleet.evaluate()
        if step % 3 == 2:
            archive(store, fleet.now_ms)
            count_all(store, fleet.now_ms)
    archive(store, fleet.now_ms + 1)
    count_all(store, fleet.now_ms)
    assert counted(store) == expected(store, PLACED)
    assert {place for place, _ in counted(store)} == set(PLACES)
    assert waiting_days(store) == 0


def test_only_changed_days_are_counted_again(store: Store) -> None:
    fleet = Fleet(store)
    for box in BOXES:
        for day in (0, 1):
            fleet.report(box, day=day, count=3)
    assert fleet.count_archived() == 2 * len(BOXES)
    c = base_instruments.c
    with store.transaction() as connection:
        others = or_(c.box != "RAP-0003", c.day != DAY + 1)
        connection.execute(update(base_instruments).where(others).values(body=b"not read"))
    fleet.report("RAP-0003", day=1, count=3)
    assert fleet.count_archived() == 1


def test_a_day_is_counted_from_rows_once_the_next_one_has_begun(store: Store) -> None:
    fleet = Fleet(store)
    fleet.report("RAP-0001", day=0, count=3)
    fleet.evaluate()
    assert count_all(store, fleet.now_ms) == 0
    fleet.report("RAP-0001", day=1, count=3)
    fleet.evaluate()
    assert count_all(store, fleet.now_ms) == 1
    assert [day for place, day in counted(store) if place == "everywhere"] == [DAY]


def test_a_box_that_moves_is_subtracted_where_it_was_counted(store: Store) -> None:
    fleet = Fleet(store)
    for box in BOXES:
        fleet.report(box, day=0, count=3)
    fleet.count_archived()
    with store.transaction() as connection:
        connection.execute(update(boxes).where(boxes.c.serial == "RAP-0001").values(site="osaka"))
    fleet.report("RAP-0001", day=0, count=2)
    fleet.count_archived()
    assert counted(store) == expected(store, PLACED | {"RAP-0001": ("JP", "asia")})


def test_an_instrument_without_a_model_is_not_counted_any_more(store: Store) -> None:
    fleet = Fleet(store)
    for box in BOXES:
        fleet.report(box, day=0, count=3)
    fleet.count_archived()
    with store.transaction() as connection:
        connection.execute(delete(instruments).where(instruments.c.box != "RAP-0001"))
        connection.execute(
            insert(changed_days),
            [{"day": DAY, "box": box, "instrument": f"CHEM-{box[-4:]}"} for box in BOXES],
        )
    count_all(store, fleet.now_ms)
    assert counted(store) == expected(store, PLACED)


def test_a_day_that_has_not_begun_is_not_counted(store: Store) -> None:
    fleet = Fleet(store)
    fleet.report("RAP-0001", day=5000, count=3)
    fleet.report("RAP-0001", day=0, count=3)
    fleet.evaluate()
    archive(store, fleet.now_ms + 1)
    assert count_all(store, (DAY + 1) * DAY_MS) == 1
    assert {day for _, day in counted(store)} == {DAY}


def test_days_are_counted_in_pieces(store: Store) -> None:
    fleet = Fleet(store)
    for box in BOXES:
        fleet.report(box, day=0, count=3)
    fleet.evaluate()
    archive(store, fleet.now_ms + 1)
    counts = [count_changed(store, fleet.now_ms, limit=2) for _ in range(4)]
    assert counts == [2, 2, 2, 0] and len(BOXES) == 6
    assert counted(store) == expected(store, PLACED)


def test_days_with_few_instruments_are_not_used(store: Store) -> None:
    fleet = Fleet(store)
    for number, box in enumerate(BOXES):
        fleet.report(box, day=0, count=3, value=number)
        if number < INSTRUMENTS_MIN - 1:
            fleet.report(box, day=1, count=3, value=90)
    fleet.count_archived()
    with store.transaction() as connection:
        everywhere = read_days(connection, MODEL, READING, ["everywhere"], DAY, DAY + 2)
        regions = read_days(connection, MODEL, READING, ["region/europe", "region/asia"], DAY, DAY + 2)
        few = read_days(connection, MODEL, READING, ["region/asia"], DAY, DAY + 2)
    assert [(day, one.instruments) for day, one in everywhere.items()] == [(DAY, 6), (DAY + 1, 4)]
    assert percentiles_of(everywhere, [0, 50, 100]) == [0, 2, 5]
    assert {day: bins(one.histogram) for day, one in regions.items()} == {
        day: bins(one.histogram) for day, one in everywhere.items()
    }
    assert percentiles_of(few, [50]) is None
