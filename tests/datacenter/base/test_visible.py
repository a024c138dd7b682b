"""Staff see the sum of exactly those instruments that the policies permit, from whichever sums it is computed."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import update

from datacenter.access.request import Principal
from datacenter.base.histogram import Histogram, added
from datacenter.base.visible import permitted_bases, visible_days
from datacenter.fleet.visible import Visibility
from datacenter.history.archive import history
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes
from tests.support.datacenter.evaluation.base import BOXES, DAY, MODEL, READING, Fleet
from tests.support.datacenter.web.client import POLICIES


def viewer(*scope: str) -> Visibility:
    return Visibility(POLICIES, Principal("viewer", frozenset({"viewer"}), frozenset(scope)), 0)


SCOPES = [
    (["everywhere"], list(BOXES), {"everywhere"}),
    (["region/europe", "country/JP"], list(BOXES), {"everywhere"}),
    (["region/europe"], ["RAP-0001", "RAP-0002", "RAP-0004", "RAP-0005"], {"region/europe"}),
    (
        ["country/DE", "country/JP"],
        ["RAP-0001", "RAP-0003", "RAP-0004", "RAP-0006"],
        {"region/asia", "country/DE"},
    ),
    (["country/DE", "site/kyoto"], ["RAP-0001", "RAP-0004", "RAP-0006"], {"country/DE"}),
    (["site/kyoto"], ["RAP-0006"], set()),
]
"""Scope, boxes of the permitted instruments, and locations whose sums are used; RAP-0006 is in Kyoto."""


def test_the_sum_is_that_of_the_permitted_instruments(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datacenter.base.percentiles.INSTRUMENTS_MIN", 1)
    fleet = Fleet(store)
    fleet.divide("osaka", "kyoto", "RAP-0006")
    for number, box in enumerate(BOXES):
        fleet.report(box, day=0, count=number + 1, value=number)
    fleet.count_archived()
    days = range(DAY, DAY + 9)
    for scope, permitted, places in SCOPES:
        base = permitted_bases(store, viewer(*scope), MODEL)[MODEL]
        assert (base.instruments, set(base.locations)) == (len(permitted), places), scope
        readings = [
            history(store, box, fleet.instrument(box), 0, 2**52).readings[READING].values for box in permitted
        ]
        expected = added([Histogram.of_instrument(values) for values in readings])
        for visible in (visible_days(store, base, days), visible_days(store, base, days, READING)):
            (day,) = visible[READING].values()
            assert day.instruments == len(permitted)
            assert np.array_equal(day.histogram.values, expected.values)
            assert np.array_equal(day.histogram.readings, expected.readings)


def test_readings_are_hidden_without_permission_and_for_few_instruments(store: Store) -> None:
    fleet = Fleet(store)
    for box in BOXES:
        fleet.report(box, day=0, count=2)
    fleet.count_archived()
    assert permitted_bases(store, viewer("region/africa")) == {}
    assert list(permitted_bases(store, viewer("everywhere"))) == [MODEL]
    europe = permitted_bases(store, viewer("region/europe"))[MODEL]
    assert europe.instruments == 4 and visible_days(store, europe, range(DAY, DAY + 1)) == {READING: {}}
    with store.transaction() as connection:
        connection.execute(update(boxes).values(site=None))
    assert permitted_bases(store, viewer("region/europe")) == {}
    assert permitted_bases(store, viewer("everywhere"))[MODEL].locations == ("everywhere",)
