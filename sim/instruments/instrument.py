"""A simulated analyzer: a process that reports periodically, and state that is updated only at each report.

It submits reports through `emit`. Its methods are the actions of operators and of the vendor's service at the
instrument, the commands of the data center, and the effects of a lab's faults. All random numbers come from one
stream, with a branch for each part, so that the arrival of samples, for example, depends neither on the report
interval nor on the actions of the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final, Literal, TypeAlias

import simpy

from settings.profile import Verb, load_profile
from sim.engine.streams import branch
from sim.instruments.assurance import Assurance, Emit, Process
from sim.instruments.model import InstrumentModel, Mishap
from sim.instruments.physics.gauge import Gauges
from sim.instruments.physics.part_wear import PartWear
from sim.instruments.physics.shelf import ReagentShelf
from sim.instruments.physics.wear import Degradation
from sim.instruments.trouble import (
    LAMP_OLD,
    WASTE_FULL,
    WASTE_NEARLY_FULL,
    Catalogue,
    Trouble,
    Troubles,
)
from sim.instruments.workload import Workload
from sim.units import DAY_NS, HOUR_NS, SECOND_NS
from wire.files import DOWN_VERBS
from wire.messages import (
    INT_MAX,
    Alert,
    Assay,
    Channel,
    Command,
    Component,
    Inventory,
    Outcome,
    State,
    Status,
)

INVENTORY_EVERY_NS: Final = HOUR_NS
SLOW_EVERY_NS: Final = HOUR_NS
"""The interval at which readings that depend on lamp and wear are updated; they change over hours and days."""
WASTE_WARNING_PCT: Final = 90
FloodReport: TypeAlias = Literal["status", "alert", "random"]
DATA_FILE_BYTES: Final = 200_000
"""Size of the data file that an instrument uploads."""


class SimulatedInstrument:
    """One analyzer. Times are those of `env.now`, in nanoseconds; `start_of_day_ns` is the time of any midnight."""

    def __init__(
        self,
        model: InstrumentModel,
        env: simpy.Environment,
        serial: str,
        random: Random,
        emit: Emit,
        report_every_ns: int,
        start_of_day_ns: int = 0,
        skip: Callable[[int], bool] = lambda _delay_ns: False,
    ) -> None:
        """`skip(delay_ns)` advances the time of `env` if nothing else happens until then; returns whether it did."""
        now_ns = int(env.now)
        self.model, self.env, self.serial = model, env, serial
        self.files: dict[Verb, bytes] = {}
        """The files sent with commands: the latest of each verb."""
        self.executed: list[int] = []
        """The numbers of the executed commands, in order."""
        self._emit, self._skip = emit, skip
        self._report_every_ns = report_every_ns
        self._random = branch(random)
        self._catalogue = Catalogue(model)
        self._troubles = Troubles(self._begun)
        self._watchers: list[Callable[[Trouble], None]] = []
        self._shelf = ReagentShelf(model.reagents, branch(random), self._marked)
        self._workload = Workload(model, branch(random), self._shelf, start_of_day_ns, now_ns)
        self._gauges = Gauges(model.sensors, branch(random), now_ns)
        assurance_random = branch(random)
        self._waste_from = -int(self._random.uniform(0.0, 0.5) * model.waste_samples)
        self._lamp_ns = int(self._random.uniform(0.0, 0.9) * model.lamp.life_h * HOUR_NS) if model.lamp else 0
        self._updated_ns = self._ready_ns = now_ns
        self._next_inventory_ns = now_ns
        self._on = True
        self._degradation = Degradation(model, env, branch(random), self._part_failed, self._worn_error)
        self._worn_channels: list[Channel] = []
        self._slow_until_ns = now_ns
        self._slow_readings: dict[Channel, int] = {}
        self._assurance = Assurance(
            model, env, assurance_random, emit, self._troubles, self._catalogue, self._worn
        )
        self._channels = tuple(load_profile(model.name).channels)
        self.floods: set[object] = set()
        """The active floods: see `flood`."""
        env.process(self._report_forever())
        env.process(self._have_mishaps())

    def _now(self) -> int:
        return int(self.env.now)

    # ---- reports

    def _report_forever(self) -> Process:
        # start at a random offset, so that the reports of several instruments do not always coincide
        yield self.env.timeout(self._random.randrange(self._report_every_ns) + 1)
        env, every_ns, skip = self.env, self._report_every_ns, self._skip
        while True:
            now_ns = int(env.now)
            self._update(now_ns)
            if self._on:
                self._report_status(now_ns)
                if now_ns >= self._next_inventory_ns:
                    self._next_inventory_ns = now_ns + INVENTORY_EVERY_NS
                    self._check_lamp_and_calibrations()
                    self._report_inventory()
            if not skip(every_ns):
                yield env.timeout(every_ns)

    def _update(self, now_ns: int) -> None:
        may_work = False
        if self._on:
            may_work = now_ns >= self._ready_ns and not self._troubles.stopped
            self._lamp_ns += now_ns - self._updated_ns
        self._workload.advance(now_ns, may_work=may_work)
        self._updated_ns = now_ns

    def _report_status(self, now_ns: int) -> None:
        model, workload = self.model, self._workload
        if now_ns >= self._slow_until_ns:
            self._update_slow_readings(now_ns)
        readings: dict[Channel, int] = {model.counter: workload.cycles, "queue-n": workload.queue}
        outside = self._gauges.read(now_ns, readings)
        if outside and now_ns >= self._ready_ns:
            for channel in outside:
                self._troubles.begin(self._catalogue.range[channel], readings[channel])
        readings |= self._slow_readings
        waste_pct = readings["waste-pct"] = self.waste_pct()
        if waste_pct >= WASTE_WARNING_PCT:
            self._troubles.begin(WASTE_FULL if waste_pct == 100 else WASTE_NEARLY_FULL, waste_pct)
        # evaluate the state last, because readings may have begun a trouble that stops the analyzer
        self._emit(Status, self._state(now_ns), workload.samples, readings)

    def _update_slow_readings(self, now_ns: int) -> None:
        """Update the lamp's readings, and the effects of worn parts on the gauges."""
        self._slow_until_ns = now_ns + SLOW_EVERY_NS
        symptoms = self._degradation.symptoms()
        for channel in dict.fromkeys((*symptoms.shift, *symptoms.noise, *self._worn_channels)):
            if channel not in self._gauges:
                continue
            shift, noise = symptoms.shift.get(channel, 0.0), symptoms.noise.get(channel, 1.0)
            self._gauges.change(channel).wear(shift, noise)
        self._worn_channels = [*symptoms.shift, *symptoms.noise]
        if lamp := self.model.lamp:
            self._slow_readings = {lamp.hours: self._lamp_ns // HOUR_NS}
            if lamp.intensity:
                pct = 100 - 30 * self.lamp_share_used() + symptoms.shift.get(lamp.intensity, 0.0)
                self._slow_readings[lamp.intensity] = max(0, round(pct))

    def _state(self, now_ns: int) -> State:
        if self._troubles.stopped:
            return "stopped"
        if now_ns < self._ready_ns:
            return "maintenance"
        if self._assurance.calibrating:
            return "calibrating"
        return "running" if self._workload.running(now_ns) else "idle"

    def _check_lamp_and_calibrations(self) -> None:
        if self.model.lamp and self.lamp_share_used() >= 1.0:
            self._troubles.begin(LAMP_OLD, self._lamp_ns // HOUR_NS)
        self._assurance.check_ages()

    def _report_inventory(self) -> None:
        if self._on:
            self._emit(Inventory, dict(self._shelf.tests_left))

    def _begun(self, trouble: Trouble, value: int | None) -> None:
        if not self._on:
            return  # reported at power-on
        self._emit(Alert, trouble.code, trouble.component, trouble.severity, value)
        for watcher in self._watchers:
            watcher(trouble)

    def _marked(self, assay: Assay, left: int) -> None:
        catalogue = self._catalogue
        self._troubles.begin((catalogue.low if left else catalogue.out)[assay], left)

    # ---- worn parts

    def _worn(self, assay: Assay) -> tuple[float, float]:
        """Return the bias in SD and the imprecision of an assay that worn parts cause now."""
        if not self._degradation.active:
            return 0.0, 1.0
        symptoms = self._degradation.symptoms()
        return symptoms.bias_sd.get(assay, 0.0), symptoms.imprecision.get(assay, 1.0)

    def _worn_error(self, code: str) -> None:
        if self._on:
            self.mishap(code)

    def _part_failed(self, index: int) -> None:
        self._troubles.begin(self._catalogue.failed[index])

    def wear_truth(self) -> tuple[PartWear, ...]:
        """Return the ground truth about all degradations of its parts until now, for results and for the scores of
        predictions.
        """
        return self._degradation.truth(self.serial)

    # ---- mishaps and drifts

    def _have_mishaps(self) -> Process:
        events: list[Callable[[], None]] = [partial(self._mishap, m) for m in self.model.mishaps]
        events += [partial(self._start_drift, channel) for channel in self._gauges]
        per_day = [m.per_day for m in self.model.mishaps] + [s.drifts_per_day for s in self.model.sensors]
        random = branch(self._random)
        while any(per_day):
            yield self.env.timeout(int(random.expovariate(sum(per_day)) * DAY_NS))
            (event,) = random.choices(events, per_day)
            if self._on:
                event()

    def _mishap(self, mishap: Mishap) -> None:
        affected = self._random.randint(1, mishap.value_max)
        self._troubles.begin(self._catalogue.mishap[mishap.code], affected)

    def _start_drift(self, channel: Channel) -> None:
        gauge = self._gauges.change(channel)
        hours_to_limit = self._random.uniform(0.5, 3.0) * self._random.choice((-1, 1))
        gauge.drift(self._now(), (gauge.high - gauge.low) / 2 / hours_to_limit)

    # ---- for operators

    def watch(self, begun: Callable[[Trouble], None]) -> None:
        """Call `begun(trouble)` when a trouble begins, from now on."""
        self._watchers.append(begun)

    def is_active(self, trouble: Trouble) -> bool:
        """Return whether a trouble was reported and is not resolved yet."""
        return self._troubles.is_active(trouble.code)

    def share_left(self, assay: Assay) -> float:
        """Return the fill level of a reagent, 0.0 to 1.0."""
        return self._shelf.share_left(assay)

    def waste_pct(self) -> int:
        """Return the fill level of the waste container, in percent."""
        samples = self._workload.samples - self._waste_from
        return min(100, 100 * samples // self.model.waste_samples)

    def lamp_share_used(self) -> float:
        """Return the used share of the lamp's life: 1.0 when it should be replaced; 0.0 without a lamp."""
        return self._lamp_ns / (self.model.lamp.life_h * HOUR_NS) if self.model.lamp else 0.0

    def reload(self, assay: Assay) -> None:
        """Load a new reagent pack."""
        if self._shelf.reload(assay):
            self._assurance.change_lot(assay)
        self._troubles.end(self._catalogue.low[assay].code, self._catalogue.out[assay].code)
        self._report_inventory()

    def empty_waste(self) -> None:
        """Empty the waste container."""
        self._waste_from = self._workload.samples
        self._troubles.end(WASTE_NEARLY_FULL.code, WASTE_FULL.code)

    def replace_lamp(self) -> None:
        """Replace the lamp, which has to warm up before samples are processed again."""
        self._lamp_ns = 0
        self._slow_until_ns = self._now()
        self._ready_ns = self._now() + self.model.warm_up_ns
        self._troubles.end(LAMP_OLD.code)
        self._replace_parts(of="lamp")

    def recalibrate(self, assay: Assay) -> None:
        """Start a calibration, followed by controls; does nothing if one is in progress."""
        self._assurance.calibrate(assay)

    def control_quality(self) -> None:
        """Start the controls of all assays; does nothing if they are in progress."""
        self._assurance.control_all()

    def clear(self, code: str) -> None:
        """Confirm that a trouble was resolved manually; a sensor's drift is reset."""
        for channel, trouble in self._catalogue.range.items():
            if trouble.code == code:
                self._gauges.change(channel).reset()
        self._troubles.end(code)

    # ---- for service

    def repair(self, code: str) -> None:
        """Replace the part whose failure has this alert code."""
        for index, failed in enumerate(self._catalogue.failed):
            if failed.code == code:
                self._replace_part(index)

    def maintain(self) -> None:
        """Replace all parts that show wear, as preventive maintenance."""
        for episode in tuple(self._degradation.active):
            self._replace_part(episode.index)

    def _replace_parts(self, of: Component) -> None:
        for index, wear in enumerate(self.model.wear):
            if wear.component == of:
                self._replace_part(index)

    def _replace_part(self, index: int) -> None:
        self._degradation.replace(index)
        self._slow_until_ns = self._now()
        self._troubles.end(self._catalogue.failed[index].code)

    # ---- for commands

    def execute(self, command: Command, content: bytes = b"") -> Outcome | bytes:
        """Execute a command of the data center with its file; return the outcome, or the file to upload.

        A command without the file that its verb requires is refused.
        """
        if not self._on:
            return "failed"
        self.executed.append(command.id)
        if command.verb == "data-upload":
            return self.data_file()
        if command.verb in DOWN_VERBS and not content:
            return "refused"
        if command.verb == "send-inventory":
            self._report_inventory()
        else:
            self.files[command.verb] = content
        return "done"

    def data_file(self) -> bytes:
        """Return the data file that the instrument uploads, which is always the same."""
        return Random(self.serial).randbytes(DATA_FILE_BYTES)

    # ---- for faults

    def power_off(self) -> None:
        """Lose power: no reports from now on, while samples keep arriving."""
        self._update(self._now())
        self._on = self._assurance.powered = False

    def power_on(self) -> None:
        """Get power back: warm up, reset the counters, and report remaining troubles again."""
        self._update(self._now())
        self._on = self._assurance.powered = True
        now_ns = self._next_inventory_ns = self._now()
        self._ready_ns = now_ns + self.model.warm_up_ns
        for channel in self._gauges:
            self._gauges.change(channel).start_cold(now_ns)
        self._waste_from -= self._workload.samples
        self._workload.restart()
        self._troubles.end_all()
        self._shelf.check()
        for episode in self._degradation.active:
            if episode.failed_ns is not None:
                self._part_failed(episode.index)

    def drift(self, channel: Channel, per_hour: float) -> None:
        """Make a sensor drift by `per_hour` units per hour, until its alert is cleared. Raises: ValueError."""
        if channel not in self._gauges:
            raise ValueError(f"{self.model.name} regulates {', '.join(self._gauges)}, not {channel!r}")
        self._gauges.change(channel).drift(self._now(), per_hour)

    def exhaust(self, assay: Assay) -> None:
        """Lose all of a reagent. Raises: ValueError if the model does not use it."""
        if assay not in self._shelf.tests_left:
            raise ValueError(f"{self.model.name} holds {', '.join(self._shelf.tests_left)}, not {assay!r}")
        self._shelf.exhaust(assay)

    def mishap(self, code: str) -> None:
        """Cause one of the model's mishaps now. Raises: ValueError if the model has none with that code."""
        mishaps = {mishap.code: mishap for mishap in self.model.mishaps}
        if code not in mishaps:
            raise ValueError(f"{self.model.name} has the mishaps {', '.join(mishaps)}, not {code!r}")
        self._mishap(mishaps[code])

    def flood(self, per_second: int, report: FloodReport) -> Callable[[], None]:
        """Send `per_second` additional reports per second (a software fault), until the result is called."""
        this_flood = object()
        self.floods.add(this_flood)
        reporters: dict[FloodReport, Callable[[int], None]] = {
            "status": self._report_status,
            "alert": self._report_waste_full,
            "random": self._report_random_readings,
        }
        report_once = reporters[report]
        self.env.process(self._flood(SECOND_NS // per_second, this_flood, report_once))
        return lambda: self.floods.discard(this_flood)

    def _flood(self, every_ns: int, this_flood: object, report_once: Callable[[int], None]) -> Process:
        while this_flood in self.floods:
            if self._on:
                report_once(self._now())
            yield self.env.timeout(every_ns)

    def _report_waste_full(self, _now_ns: int) -> None:
        """Report the same alert although nothing has changed."""
        self._emit(Alert, WASTE_FULL.code, WASTE_FULL.component, WASTE_FULL.severity, None)

    def _report_random_readings(self, now_ns: int) -> None:
        """Report a status with a random reading of each channel: valid, and incompressible."""
        readings = {channel: self._random.randint(-INT_MAX, INT_MAX) for channel in self._channels}
        self._emit(Status, self._state(now_ns), self._random.randint(0, INT_MAX), readings)
