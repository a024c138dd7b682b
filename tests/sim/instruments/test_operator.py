"""Simulated operators: controls at each shift, replaced reagents and lamps, emptied waste."""

from itertools import pairwise
from typing import Any

import pytest
import simpy

from sim.engine.streams import stream
from sim.instruments import SimulatedInstrument, load_model
from sim.instruments.field_service import FieldService
from sim.instruments.operator import REPLACE_LAMP_FROM, SHIFTS, Operator
from sim.units import DAY_NS, HOUR_NS, MINUTE_NS
from wire.messages import Alert, Inventory, Quality, Report, Status


class Room:
    """One instrument with operators and field service. `sent` has its reports: (time in ns, kind, fields)."""

    def __init__(self, model: str = "chemistry-analyzer", seed: int = 1) -> None:
        self.env = simpy.Environment(0)
        self.sent: list[tuple[int, type[Report], tuple[Any, ...]]] = []
        self.instrument = SimulatedInstrument(
            load_model(model),
            self.env,
            "X-1",
            stream(seed, "instrument/X-1"),
            lambda kind, *fields: self.sent.append((int(self.env.now), kind, fields)),
            MINUTE_NS,
        )
        Operator(self.env, self.instrument, stream(seed, "people/X-1"))
        FieldService(self.env, self.instrument, stream(seed, "service/X-1"))

    def times(self, kind: type[Report]) -> list[int]:
        return [at_ns for at_ns, its, _ in self.sent if its is kind]


def test_controls_run_at_the_start_of_each_shift() -> None:
    room = Room()
    room.env.run(DAY_NS)
    for shift in SHIFTS:
        begin_ns = shift.begins_hour * HOUR_NS
        assert any(begin_ns < at_ns < begin_ns + 2 * HOUR_NS for at_ns in room.times(Quality))
    assert min(room.times(Quality)) > SHIFTS[0].begins_hour * HOUR_NS


def test_a_missing_reagent_is_replaced_after_a_delay() -> None:
    waits = []
    for seed in range(20):
        room = Room(seed=seed)
        room.env.run(3 * HOUR_NS)
        room.instrument.exhaust("wash")
        while room.instrument.share_left("wash") == 0:
            room.env.step()
        waits.append(room.env.now - 3 * HOUR_NS)
    assert min(waits) > 2 * MINUTE_NS
    assert max(waits) < 2 * HOUR_NS
    assert len(set(waits)) == len(waits)


def test_operators_respond_more_slowly_at_night() -> None:
    def mean_wait_ns(hour: int) -> float:
        total_ns = 0.0
        for seed in range(30):
            room = Room(seed=seed)
            room.env.run(hour * HOUR_NS)
            room.instrument.exhaust("wash")
            while room.instrument.share_left("wash") == 0:
                room.env.step()
            total_ns += room.env.now - hour * HOUR_NS
        return total_ns / 30

    assert mean_wait_ns(3) > 1.5 * mean_wait_ns(9)


def test_a_reagent_that_stops_the_instrument_is_replaced_first() -> None:
    room = Room()
    room.env.run(12 * HOUR_NS)
    for assay in ("glu", "alb", "wash"):
        room.instrument.exhaust(assay)
    reloaded = []
    seen = len(room.sent)
    room.env.run(14 * HOUR_NS)
    before = {"glu": 0, "alb": 0, "wash": 0}
    for _, kind, fields in room.sent[seen:]:
        if kind is Inventory:
            reloaded += [assay for assay in before if fields[0][assay] > before[assay]]
            before = {assay: fields[0][assay] for assay in before}
    assert reloaded[0] == "wash"
    assert set(reloaded) == set(before)


@pytest.mark.parametrize("model", ["chemistry-analyzer", "hematology-analyzer"])
def test_the_lamp_is_replaced_before_the_end_of_its_life(model: str) -> None:
    room = Room(model)
    lamp = load_model(model).lamp
    assert lamp is not None
    left_h = (REPLACE_LAMP_FROM - room.instrument.lamp_share_used()) * lamp.life_h
    assert left_h > 0
    room.env.run(int(left_h * HOUR_NS))
    assert room.instrument.lamp_share_used() > 0.9 * REPLACE_LAMP_FROM
    room.env.run(room.env.now + 2 * DAY_NS)
    assert room.instrument.lamp_share_used() < 0.1
    assert "maintenance" in {fields[0] for _, kind, fields in room.sent if kind is Status}
    assert "L0100" not in {fields[0] for _, kind, fields in room.sent if kind is Alert}


def test_the_waste_is_emptied_before_it_is_full() -> None:
    room = Room("immunoassay-analyzer")
    room.env.run(7 * DAY_NS)
    levels = [fields[2]["waste-pct"] for _, kind, fields in room.sent if kind is Status]
    assert any(after < before for before, after in pairwise(levels))
    assert max(levels) < 100
