"""Worn parts: reports agree with the ground truth; courses of wear, repairs, maintenance, power."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from statistics import fmean, pstdev
from typing import Any

import pytest

from settings.profile import load_profile
from sim.engine.clock import Environment
from sim.engine.streams import stream
from sim.instruments import load_model, model_names
from sim.instruments.field_service import FieldService
from sim.instruments.history import History
from sim.instruments.instrument import SimulatedInstrument
from sim.instruments.model import Bias, Errors, Imprecision, InstrumentModel, Noise, Shift
from sim.instruments.operator import Operator
from sim.instruments.physics.part_wear import PartWear
from sim.instruments.trouble import Catalogue
from sim.units import DAY_NS, HOUR_NS, MINUTE_NS
from wire.messages import Alert, Quality, Report, Status


class WornInstrument:
    """One instrument, by default without operators and service, and its reports: (time in ns, kind, fields)."""

    def __init__(
        self,
        model: InstrumentModel,
        seed: int = 1,
        *,
        staffed: bool = False,
        serviced: bool = False,
        every_ns: int = 30 * MINUTE_NS,
    ) -> None:
        self.env = Environment()
        self.sent: list[tuple[int, type[Report], tuple[Any, ...]]] = []
        self.instrument = SimulatedInstrument(
            model, self.env, "X-1", stream(seed, "model"), self._emit, every_ns
        )
        if staffed:
            Operator(self.env, self.instrument, stream(seed, "people"))
        if serviced:
            FieldService(self.env, self.instrument, stream(seed, "service"))

    def _emit(self, kind: type[Report], /, *fields: object) -> None:
        self.sent.append((self.env.now, kind, fields))

    def readings(self, channel: str, begin_ns: int, end_ns: int) -> list[int]:
        return [
            fields[2][channel]
            for at_ns, kind, fields in self.sent
            if kind is Status and begin_ns <= at_ns < end_ns
        ]

    def alerts(self, code: str) -> list[int]:
        return [at_ns for at_ns, kind, fields in self.sent if kind is Alert and fields[0] == code]


def with_one_part(name: str, index: int, **changes: Any) -> InstrumentModel:
    """Return a model in which only one part degrades, within days, and then fails unless `changes` say otherwise."""
    model = load_model(name)
    soon: dict[str, Any] = {"starts_after_days": 6, "stable": 0.0, "sudden": 0.0, **changes}
    quick = replace(model.wear[index], **soon)
    quiet = tuple(replace(sensor, drifts_per_day=0.0) for sensor in model.sensors)
    return replace(
        model, wear=(quick,), sensors=quiet, mishaps=tuple(replace(m, stops=False) for m in model.mishaps)
    )


@cache
def failed(name: str, index: int) -> tuple[WornInstrument, PartWear]:
    """Return an instrument and the wear of one part, which has failed for the first time at most a day ago."""
    bench = WornInstrument(with_one_part(name, index), staffed=True)
    while not any(wear.failed_ns for wear in bench.instrument.wear_truth()):
        bench.env.run(until=bench.env.now + DAY_NS)
    return bench, next(wear for wear in bench.instrument.wear_truth() if wear.failed_ns)


PARTS = [(name, index) for name in model_names() for index in range(len(load_model(name).wear))]
SHIFTED = [
    (name, index, symptom)
    for name, index in PARTS
    for symptom in load_model(name).wear[index].symptoms
    if isinstance(symptom, Shift)
]


# ---- models


@pytest.mark.parametrize(("name", "index"), PARTS)
def test_a_worn_part_and_its_symptoms_are_in_the_profile(name: str, index: int) -> None:
    profile, model = load_profile(name), load_model(name)
    wear, error = model.wear[index], profile.errors[f"D01{index:02}"]
    assert wear.part in profile.components[wear.component].parts
    assert (error.component, error.severity, error.parts) == (wear.component, "critical", [wear.part])
    assert 0 < wear.lasts_days[0] < wear.lasts_days[1] and wear.symptoms
    for symptom in wear.symptoms:
        match symptom:
            case Shift(channel, _) | Noise(channel, _):
                assert channel in profile.channels
            case Bias(assays, _) | Imprecision(assays, _):
                assert set(assays) <= set(model.controls)
            case Errors(code, _):
                assert code in {mishap.code for mishap in model.mishaps}


@pytest.mark.parametrize(("name", "index"), PARTS)
def test_a_worn_part_does_not_leave_the_range_of_a_channel_before_it_fails(name: str, index: int) -> None:
    model = load_model(name)
    for sensor in model.sensors:
        shift, noise = 0.0, sensor.noise
        for symptom in model.wear[index].symptoms:
            match symptom:
                case Shift(sensor.channel, by):
                    shift += by
                case Noise(sensor.channel, times):
                    noise *= times
        spread = 4.9 * (noise**2 + sensor.wander**2) ** 0.5
        assert sensor.low < sensor.setpoint + shift - spread, sensor.channel
        assert sensor.high > sensor.setpoint + shift + spread, sensor.channel


# ---- ground truth and reports


@pytest.mark.parametrize(("name", "index", "symptom"), SHIFTED)
def test_the_readings_drift_from_the_beginning_to_the_failure(name: str, index: int, symptom: Shift) -> None:
    bench, truth = failed(name, index)
    assert truth.failed_ns is not None and truth.began_ns < truth.failed_ns == truth.due_ns
    assert symptom.channel in truth.channels
    replaced = [wear.replaced_ns for wear in bench.instrument.wear_truth() if wear.replaced_ns]
    before = bench.readings(symptom.channel, max(replaced, default=0), truth.began_ns)
    third_ns = (truth.failed_ns - truth.began_ns) // 3
    thirds = [
        fmean(
            bench.readings(
                symptom.channel, truth.began_ns + k * third_ns, truth.began_ns + (k + 1) * third_ns
            )
        )
        for k in range(3)
    ]
    sign = 1 if symptom.by > 0 else -1
    assert sign * thirds[0] < sign * thirds[1] < sign * thirds[2]
    last = fmean(bench.readings(symptom.channel, truth.failed_ns - DAY_NS, truth.failed_ns))
    healthy = fmean(before) if before else last - symptom.by
    assert sign * (last - healthy) > 0.65 * abs(symptom.by)
    if symptom.channel != "lamp-intensity-pct":  # a lamp also ages
        assert sign * (last - healthy) < 1.35 * abs(symptom.by)


@pytest.mark.parametrize(("name", "index"), PARTS)
def test_a_failure_causes_one_alert_at_its_true_time_and_stops_the_instrument(name: str, index: int) -> None:
    bench, truth = failed(name, index)
    assert truth.code == "D0100", "the only part of this model"
    assert bench.alerts("D0100") == [truth.failed_ns]
    assert truth.failed_ns is not None
    states = [(at_ns, f[0]) for at_ns, kind, f in bench.sent if kind is Status]
    assert {state for at_ns, state in states if at_ns > truth.failed_ns} == {"stopped"}
    before = [state for at_ns, state in states if truth.failed_ns - DAY_NS < at_ns < truth.failed_ns]
    assert before.count("stopped") < 0.2 * len(before)
    assert truth.replaced_ns is None


def test_noise_grows_before_a_failure() -> None:
    bench, truth = failed("hematology-analyzer", 4)
    assert truth.part == "Pump diaphragm" and truth.failed_ns is not None
    early = bench.readings("vacuum-pa", 0, truth.began_ns + DAY_NS)
    late = bench.readings("vacuum-pa", truth.failed_ns - DAY_NS, truth.failed_ns)
    assert pstdev(late) > 1.8 * pstdev(early)


def test_errors_become_frequent_before_a_failure_and_cease_after_the_repair() -> None:
    model = with_one_part("hematology-analyzer", 6)
    model = replace(model, mishaps=tuple(replace(m, per_day=0.0) for m in model.mishaps))
    before_failure = after_repair = 0
    for seed in range(6):
        bench = WornInstrument(model, seed)
        bench.instrument.watch(partial(lambda it, trouble: it.clear(trouble.code), bench.instrument))
        bench.env.run(until=90 * DAY_NS)
        (truth, *_) = bench.instrument.wear_truth()
        assert truth.codes == ("K0101", "B0101") and truth.failed_ns is not None
        jams = bench.alerts("K0101")
        assert not any(at_ns < truth.began_ns or at_ns > truth.failed_ns for at_ns in jams)
        before_failure += sum(truth.failed_ns - 5 * DAY_NS < at_ns for at_ns in jams)
        after_repair += sum(at_ns > truth.failed_ns for at_ns in jams)
    assert before_failure >= 6 * 5 * 2
    assert after_repair == 0


def controls(bench: WornInstrument, assay: str, begin_ns: int, end_ns: int) -> list[int]:
    return [
        fields[2]
        for at_ns, kind, fields in bench.sent
        if kind is Quality and fields[0] == assay and begin_ns <= at_ns < end_ns
    ]


def controlled(model: InstrumentModel, days: int) -> WornInstrument:
    """Return an instrument that has run for `days` with controls each hour and without calibrations."""
    bench = WornInstrument(model)
    for _ in range(24 * days):
        bench.instrument.control_quality()
        bench.env.run(until=bench.env.now + HOUR_NS)
    return bench


def test_controls_deviate_and_scatter_before_a_failure() -> None:
    bench = controlled(with_one_part("chemistry-analyzer", 1, lasts_days=(14, 15), starts_after_days=4), 30)
    truth = bench.instrument.wear_truth()[0]
    assert truth.part == "Syringe" and "glu" in truth.assays and truth.failed_ns is not None
    early = [v for assay in truth.assays for v in controls(bench, assay, 0, truth.began_ns + DAY_NS)]
    late = [
        v for assay in truth.assays for v in controls(bench, assay, truth.failed_ns - DAY_NS, truth.failed_ns)
    ]
    assert pstdev(late) > 1.6 * pstdev(early)
    assert fmean(late) < fmean(early) - 400


def test_a_calibration_compensates_for_the_bias_of_a_worn_part_until_it_grows_further() -> None:
    model = with_one_part(
        "chemistry-analyzer", 1, symptoms=(Bias(("glu",), 30.0),), lasts_days=(20, 21), starts_after_days=2
    )
    bench = controlled(model, 16)
    truth = bench.instrument.wear_truth()[0]
    now_ns = bench.env.now
    assert truth.began_ns < now_ns - 6 * DAY_NS and truth.failed_ns is None
    assert fmean(controls(bench, "glu", now_ns - 6 * HOUR_NS, now_ns)) > 4_000
    for _ in range(3):  # one of them is accepted
        bench.instrument.recalibrate("glu")
        bench.env.run(until=bench.env.now + HOUR_NS)
    calibrated_ns = bench.env.now
    for _ in range(6):
        bench.instrument.control_quality()
        bench.env.run(until=bench.env.now + HOUR_NS)
    assert abs(fmean(controls(bench, "glu", calibrated_ns, bench.env.now))) < 1_500


# ---- courses


def test_a_stable_course_never_fails_and_its_symptoms_stay_moderate() -> None:
    bench = WornInstrument(with_one_part("immunoassay-analyzer", 5, stable=1.0))
    bench.env.run(until=120 * DAY_NS)
    (truth,) = bench.instrument.wear_truth()
    assert (truth.course, truth.due_ns, truth.failed_ns) == ("stable", None, None)
    assert bench.alerts("D0100") == []
    shift = fmean(bench.readings("vacuum-pa", 100 * DAY_NS, 120 * DAY_NS)) - 82_000
    assert -4_000 * 0.5 < shift < -4_000 * 0.05


def test_a_sudden_failure_has_no_symptoms_before_it() -> None:
    bench = WornInstrument(with_one_part("immunoassay-analyzer", 5, sudden=1.0))
    bench.env.run(until=60 * DAY_NS)
    truth = bench.instrument.wear_truth()[0]
    assert truth.course == "sudden" and truth.failed_ns == truth.began_ns == truth.due_ns
    before = bench.readings("vacuum-pa", 0, truth.failed_ns)
    assert abs(fmean(before) - 82_000) < 60 and pstdev(before) < 200


def test_courses_occur_as_often_as_the_model_states() -> None:
    courses = [wear.course for seed in range(12) for wear in _years_of_one_part(seed)]
    assert len(courses) > 300
    assert courses.count("stable") / len(courses) == pytest.approx(0.3, abs=0.08)
    assert courses.count("sudden") / len(courses) == pytest.approx(0.2, abs=0.08)


def _years_of_one_part(seed: int) -> tuple[PartWear, ...]:
    bench = WornInstrument(
        with_one_part("chemistry-analyzer", 5, stable=0.3, sudden=0.2, lasts_days=(3, 5)),
        seed,
        every_ns=DAY_NS,
    )
    for _ in range(26):
        bench.env.run(until=bench.env.now + 14 * DAY_NS)
        bench.instrument.maintain()
    return bench.instrument.wear_truth()


# ---- people


def test_service_replaces_a_failed_part_and_the_instrument_is_healthy_again() -> None:
    bench = WornInstrument(with_one_part("chemistry-analyzer", 4, starts_after_days=60), 3, serviced=True)
    while not (done := [w for w in bench.instrument.wear_truth() if w.failed_ns and w.replaced_ns]):
        bench.env.run(until=bench.env.now + DAY_NS)
    (truth,) = done
    assert truth.failed_ns is not None and truth.replaced_ns is not None
    assert HOUR_NS / 2 < truth.replaced_ns - truth.failed_ns < 3 * DAY_NS
    bench.env.run(until=truth.replaced_ns + DAY_NS)
    after = bench.readings("vacuum-pa", truth.replaced_ns + HOUR_NS, bench.env.now)
    assert abs(fmean(after) - 80_000) < 100
    (failure,) = Catalogue(bench.instrument.model).failed
    assert not bench.instrument.is_active(failure)


def test_preventive_maintenance_ends_a_degradation_before_its_failure() -> None:
    bench = WornInstrument(with_one_part("chemistry-analyzer", 4, lasts_days=(500, 600)), serviced=True)
    bench.env.run(until=400 * DAY_NS)
    (first, second, *_) = bench.instrument.wear_truth()
    assert first.failed_ns is None and first.due_ns is not None and first.replaced_ns is not None
    assert second.began_ns > first.replaced_ns


def test_a_replaced_lamp_ends_the_wear_of_the_lamp() -> None:
    bench = WornInstrument(with_one_part("chemistry-analyzer", 0, lasts_days=(300, 400)))
    while not bench.instrument.wear_truth():
        bench.env.run(until=bench.env.now + DAY_NS)
    bench.instrument.replace_lamp()
    assert bench.instrument.wear_truth()[0].replaced_ns == bench.env.now


def test_a_failure_without_power_is_reported_at_power_on() -> None:
    bench = WornInstrument(with_one_part("chemistry-analyzer", 4))
    bench.instrument.power_off()
    while not any(wear.failed_ns for wear in bench.instrument.wear_truth()):
        bench.env.run(until=bench.env.now + DAY_NS)
    assert bench.alerts("D0100") == []
    bench.instrument.power_on()
    assert bench.alerts("D0100") == [bench.env.now]


# ---- histories


@pytest.mark.parametrize("name", model_names())
def test_a_history_depends_on_its_seed_alone(name: str) -> None:
    continuous = History(name, "X-1", 7)
    pieces = History(name, "X-1", 7)
    reports = list(continuous.until(3 * DAY_NS))
    in_pieces = [r for end_ns in (DAY_NS // 3, DAY_NS + 1, 3 * DAY_NS) for r in pieces.until(end_ns)]
    assert reports == in_pieces and len(reports) > 3 * 1440
    assert continuous.wear() == pieces.wear()
    assert [report.number for report in reports] == list(range(1, len(reports) + 1))
    assert reports != list(History(name, "X-1", 8).until(3 * DAY_NS))
    assert reports != list(History(name, "X-2", 7).until(3 * DAY_NS))


def test_a_history_equals_a_simulation_with_an_event_for_each_report() -> None:
    env, reports = Environment(), list[Report]()

    def emit(kind: type[Report], /, *fields: object) -> None:
        reports.append(kind(len(reports) + 1, env.now // 1_000_000, *fields))

    random = partial("history/X-1/{}".format)
    instrument = SimulatedInstrument(
        load_model("chemistry-analyzer"), env, "X-1", stream(7, random("model")), emit, MINUTE_NS
    )
    Operator(env, instrument, stream(7, random("bench")))
    FieldService(env, instrument, stream(7, random("service")))
    env.run(until=4 * DAY_NS)
    assert reports == list(History("chemistry-analyzer", "X-1", 7).until(4 * DAY_NS))


def test_years_have_healthy_instruments_failures_and_degradations_that_do_not_fail() -> None:
    courses, healthy = [], 0
    for seed in range(4):
        history = History("hematology-analyzer", "X-1", seed, report_every_ns=6 * HOUR_NS)
        for _ in history.until(200 * DAY_NS):
            pass
        courses += [(wear.course, wear.failed_ns is not None) for wear in history.wear()]
        healthy += not [w for w in history.wear() if w.began_ns < 30 * DAY_NS]
    assert {("failing", True), ("stable", False)} <= set(courses)
    assert healthy
