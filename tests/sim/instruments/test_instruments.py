"""Simulated instruments: determinism, plausible reports, faults and commands."""

from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import pytest
import simpy

from settings.profile import load_profile
from sim.engine.streams import stream
from sim.instruments import ModelError, SimulatedInstrument, load_model, model_names
from sim.instruments.field_service import FieldService
from sim.instruments.operator import Operator
from sim.instruments.quality import Controls, rejects
from sim.instruments.workload import SAMPLES_BY_HOUR, Arrivals
from sim.units import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS
from wire.messages import (
    Alert,
    Calibration,
    Command,
    Entry,
    Inventory,
    Quality,
    Report,
    Status,
    decode,
    encode,
)

DAYS = 7
AGENT_MODELS = [name for name in model_names() if load_profile(name).speaks == "agent"]
"""Models whose readings reach the box; the standards that the others speak do not carry readings."""


class Lab:
    """Instruments in one environment. `sent` has the reports of each: (time in ns, kind, fields)."""

    def __init__(self, seed: int = 1) -> None:
        self.env = simpy.Environment(0)
        self.seed = seed
        self.sent: dict[str, list[tuple[int, type[Report], tuple[Any, ...]]]] = {}

    def add(
        self, model: str, serial: str = "X-1", *, every_ns: int = MINUTE_NS, staffed: bool = False
    ) -> SimulatedInstrument:
        sent = self.sent[serial] = []
        instrument = SimulatedInstrument(
            load_model(model),
            self.env,
            serial,
            stream(self.seed, f"instrument/{serial}"),
            lambda kind, *fields: sent.append((int(self.env.now), kind, fields)),
            every_ns,
        )
        if staffed:
            Operator(self.env, instrument, stream(self.seed, f"people/{serial}"))
            FieldService(self.env, instrument, stream(self.seed, f"service/{serial}"))
        return instrument

    def of(self, kind: type[Report], serial: str = "X-1") -> list[tuple[Any, ...]]:
        return [fields for _, its, fields in self.sent[serial] if its is kind]


def week(model: str, seed: int = 1) -> Lab:
    lab = Lab(seed)
    lab.add(model, staffed=True)
    lab.env.run(DAYS * DAY_NS)
    return lab


@pytest.fixture(scope="module", params=model_names())
def a_week(request: pytest.FixtureRequest) -> Lab:
    return week(request.param)


@pytest.fixture(params=model_names())
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_models_are_loaded_by_their_file_names() -> None:
    assert {"chemistry-analyzer", "hematology-analyzer", "immunoassay-analyzer"} <= set(model_names())
    with pytest.raises(ModelError, match=r"'toaster'; there are batch-chemistry-analyzer, "):
        load_model("toaster")


def test_a_model_is_consistent(model: str) -> None:
    loaded = load_model(model)
    shelf = {reagent.assay for reagent in loaded.reagents}
    assert {assay for panel in loaded.panels for assay in panel.uses} == shelf
    assert all(0 < reagent.low < reagent.capacity / 2 for reagent in loaded.reagents)
    for sensor in loaded.sensors:
        spread = 6 * (sensor.noise**2 + sensor.wander**2) ** 0.5
        assert sensor.low < sensor.setpoint - spread
        assert sensor.high > sensor.setpoint + spread
    codes = [mishap.code for mishap in loaded.mishaps]
    assert len(set(codes)) == len(codes)


# ---- determinism


def test_the_same_seed_gives_the_same_reports(model: str) -> None:
    assert week(model).sent == week(model).sent
    assert week(model).sent != week(model, seed=2).sent


def test_an_additional_instrument_does_not_change_the_reports_of_another(model: str) -> None:
    alone = week(model)
    lab = Lab()
    lab.add("hematology-analyzer", "X-0", staffed=True)
    lab.add(model, staffed=True)
    lab.env.run(DAYS * DAY_NS)
    assert lab.sent["X-1"] == alone.sent["X-1"]


def test_the_arrivals_of_samples_do_not_depend_on_how_often_they_are_read() -> None:
    often, seldom = (Arrivals(Random(7), 500, 0, 0) for _ in range(2))
    assert sum(often.until(t) for t in range(0, DAY_NS + 1, 10 * SECOND_NS)) == seldom.until(DAY_NS)


# ---- encoding


def test_every_report_can_be_encoded_and_decoded(a_week: Lab) -> None:
    for number, (at_ns, kind, fields) in enumerate(a_week.sent["X-1"], 1):
        report: Any = kind(number, at_ns // 1_000_000, *fields)
        entry = Entry("X-1", 1, report)
        assert decode(Entry, encode(entry)) == entry


@pytest.mark.parametrize("a_week", AGENT_MODELS, indirect=True)
def test_a_status_has_eight_to_ten_readings_if_an_agent_sends_them(a_week: Lab) -> None:
    assert {len(readings) for _, _, readings in a_week.of(Status)} <= {8, 9, 10}


# ---- plausibility of a week


def test_a_status_is_sent_each_minute_and_an_inventory_each_hour(a_week: Lab) -> None:
    assert len(a_week.of(Status)) == DAYS * 24 * 60
    assert len(a_week.of(Inventory)) >= DAYS * 24


def test_reagents_are_consumed_and_never_negative(a_week: Lab) -> None:
    stocks = [stock for (stock,) in a_week.of(Inventory)]
    assert all(left >= 0 for stock in stocks for left in stock.values())
    changes = [after[a] - before[a] for before, after in pairwise(stocks) for a in before]
    assert min(changes) < 0 < max(changes)


def test_most_samples_are_processed_in_the_morning(a_week: Lab) -> None:
    by_hour = Counter[int]()
    before = 0
    for at_ns, kind, fields in a_week.sent["X-1"]:
        if kind is Status:
            by_hour[at_ns % DAY_NS // HOUR_NS] += fields[1] - before
            before = fields[1]
    morning = sum(by_hour[hour] for hour in (7, 8, 9, 10))
    evening = sum(by_hour[hour] for hour in (19, 20, 21, 22))
    assert max(by_hour, key=by_hour.__getitem__) in (7, 8, 9, 10)
    assert morning > 4 * evening > 0
    assert min(by_hour.values()) > 0, "there are emergency samples at night"


def test_an_instrument_never_exceeds_its_throughput(a_week: Lab, request: pytest.FixtureRequest) -> None:
    model = load_model(request.node.callspec.params["a_week"])
    counts = [readings[model.counter] for _, _, readings in a_week.of(Status)]
    most_expensive = max(panel.cycles for panel in model.panels)
    hourly = [after - before for before, after in zip(counts, counts[60:], strict=False)]
    assert max(hourly) <= model.cycles_per_hour + most_expensive
    assert max(hourly) > model.cycles_per_hour / 5


def test_most_controls_are_within_two_standard_deviations(a_week: Lab) -> None:
    deviations = [deviation for _, _, deviation in a_week.of(Quality)]
    within = sum(abs(deviation) <= 2000 for deviation in deviations) / len(deviations)
    assert 0.85 < within < 0.99


def test_controls_run_three_times_a_day(a_week: Lab, request: pytest.FixtureRequest) -> None:
    model = load_model(request.node.callspec.params["a_week"])
    per_run = len(model.controls) * model.control_levels
    shifts = 3 * (DAYS - 1)
    assert len(a_week.of(Quality)) >= shifts * per_run


def test_alerts_occur_daily_and_at_most_36_a_day(a_week: Lab) -> None:
    per_day = Counter(at_ns // DAY_NS for at_ns, kind, _ in a_week.sent["X-1"] if kind is Alert)
    assert len(a_week.of(Alert)) >= DAYS
    assert max(per_day.values()) <= 36


def test_an_instrument_runs_most_of_the_time(a_week: Lab) -> None:
    states = Counter(state for state, _, _ in a_week.of(Status))
    assert states["running"] > 0.5 * states.total()
    assert states["idle"] > 0
    assert states["stopped"] < 0.03 * states.total()


# ---- faults, commands and power


def test_without_operators_an_instrument_stops_and_sends_each_alert_once(model: str) -> None:
    lab = Lab()
    lab.add(model)
    lab.env.run(DAYS * DAY_NS)
    state, _, readings = lab.of(Status)[-1]
    assert state == "stopped"
    assert readings["queue-n"] == load_model(model).queue_max
    codes = [code for code, *_ in lab.of(Alert)]
    assert len(set(codes)) == len(codes)


def test_only_an_essential_reagent_stops_the_instrument(model: str) -> None:
    for reagent in load_model(model).reagents:
        lab = Lab()
        instrument = lab.add(model)
        lab.env.run(10 * HOUR_NS)
        instrument.exhaust(reagent.assay)
        lab.env.run(10 * HOUR_NS + 5 * MINUTE_NS)
        assert (lab.of(Status)[-1][0] == "stopped") == reagent.essential
        severity = "critical" if reagent.essential else "error"
        assert [fields[1:] for fields in lab.of(Alert)][-1] == ("reagent", severity, 0)
        instrument.reload(reagent.assay)
        assert lab.of(Inventory)[-1][0][reagent.assay] == reagent.capacity
        lab.env.run(10 * HOUR_NS + 10 * MINUTE_NS)
        assert lab.of(Status)[-1][0] == "running"


def test_a_drift_causes_one_alert_and_ends_when_cleared(model: str) -> None:
    lab = Lab()
    instrument = lab.add(model)
    sensor = load_model(model).sensors[0]
    instrument.drift(sensor.channel, (sensor.high - sensor.setpoint) * 2)
    lab.env.run(2 * HOUR_NS)
    (code, component, severity, value) = next(f for f in lab.of(Alert) if f[0].startswith("T01"))
    assert (component, severity) == (sensor.component, "error")
    assert value > sensor.high
    assert lab.of(Status)[-1][2][sensor.channel] > sensor.high
    instrument.clear(code)
    lab.env.run(3 * HOUR_NS)
    assert sensor.low <= lab.of(Status)[-1][2][sensor.channel] <= sensor.high
    assert [fields[0] for fields in lab.of(Alert)].count(code) == 1


def test_faults_of_parts_that_the_model_does_not_have_are_refused() -> None:
    instrument = Lab().add("hematology-analyzer")
    with pytest.raises(ValueError, match=r"regulates bath-temp-mc, .* not 'luminometer-dark-n'"):
        instrument.drift("luminometer-dark-n", 1)
    with pytest.raises(ValueError, match=r"holds diluent, .* not 'tsh'"):
        instrument.exhaust("tsh")
    with pytest.raises(ValueError, match=r"has the mishaps B0101, .* not 'Z9999'"):
        instrument.mishap("Z9999")


def test_a_flood_has_the_given_rate_until_it_ends() -> None:
    lab = Lab()
    instrument = lab.add("chemistry-analyzer")
    lab.env.run(HOUR_NS)
    before = len(lab.of(Status))
    end = instrument.flood(50, "status")
    lab.env.run(HOUR_NS + 10 * SECOND_NS)
    flooded = len(lab.of(Status)) - before
    assert 500 <= flooded <= 502
    end()
    lab.env.run(2 * HOUR_NS)
    assert len(lab.of(Status)) - before - flooded <= 61


def test_an_instrument_sends_nothing_without_power_and_warms_up_afterwards(model: str) -> None:
    lab = Lab()
    instrument = lab.add(model)
    lab.env.run(9 * HOUR_NS)
    samples = lab.of(Status)[-1][1]
    instrument.power_off()
    sent = len(lab.sent["X-1"])
    lab.env.run(10 * HOUR_NS)
    assert len(lab.sent["X-1"]) == sent
    assert instrument.execute(Command(1, "X-1", "send-inventory")) == "failed"
    instrument.power_on()
    lab.env.run(10 * HOUR_NS + 2 * MINUTE_NS)
    state, counted, readings = lab.of(Status)[-1]
    sensor = next(sensor for sensor in load_model(model).sensors if sensor.cold)
    assert sensor.cold is not None
    assert (state, counted) == ("maintenance", 0) and samples > 0
    assert readings[sensor.channel] < sensor.low or sensor.cold > sensor.setpoint
    assert readings["queue-n"] > 0
    lab.env.run(11 * HOUR_NS)
    state, counted, readings = lab.of(Status)[-1]
    assert state == "running" and counted > 0
    assert sensor.low < readings[sensor.channel] < sensor.high


def test_commands_are_executed_or_refused() -> None:
    lab = Lab()
    instrument = lab.add("immunoassay-analyzer")
    assert instrument.execute(Command(1, "X-1", "send-inventory")) == "done"
    assert len(lab.of(Inventory)) == 1
    assert instrument.execute(Command(2, "X-1", "test-menu"), b"more") == "done"
    assert instrument.files["test-menu"] == b"more"
    assert instrument.execute(Command(3, "X-1", "help-file")) == "refused"
    assert instrument.execute(Command(4, "X-1", "data-upload")) == instrument.data_file()


def test_a_calibration_is_followed_by_controls() -> None:
    lab = Lab()
    instrument = lab.add("hematology-analyzer")
    instrument.recalibrate("hgb")
    lab.env.run(HOUR_NS)
    (calibration,) = lab.of(Calibration)
    assert calibration[0] == "hgb" and calibration[3]
    assert [fields[:2] for fields in lab.of(Quality)] == [("hgb", 1), ("hgb", 2), ("hgb", 3)]


# ---- quality control, gauges and arrivals


@pytest.mark.parametrize(
    ("previous", "deviation", "rejected"),
    [
        (0, 3000, False),
        (0, 3050, True),
        (0, -3050, True),
        (2050, 2050, True),
        (-2050, -2050, True),
        (2050, -2050, False),
        (2000, 2900, False),
        (2900, 2000, False),
    ],
)
def test_controls_are_rejected_by_the_westgard_rules(previous: int, deviation: int, rejected: bool) -> None:
    assert rejects(previous, deviation) is rejected


def test_a_calibration_removes_the_bias() -> None:
    controls = Controls(Random(3), 0, DAY_NS)
    for _ in range(1000):
        controls.change_lot()
    assert abs(sum(controls.measure(0)[0] for _ in range(100)) / 100) > 2000
    while not controls.calibrate(0).accepted:
        pass
    mean = sum(controls.measure(0)[0] for _ in range(500)) / 500
    assert abs(mean) < 700


def test_the_samples_of_a_day_follow_the_hourly_distribution() -> None:
    arrivals = Arrivals(Random(11), 24_000, 6 * HOUR_NS, 6 * HOUR_NS)
    by_hour = [arrivals.until((6 + hour) * HOUR_NS) for hour in range(1, 25)]
    for count, weight in zip(by_hour, SAMPLES_BY_HOUR, strict=True):
        expected = 24_000 * weight / sum(SAMPLES_BY_HOUR)
        assert abs(count - expected) < 5 * expected**0.5
