"""Quality assurance on an analyzer: calibrations and quality control runs, each of which takes minutes.

A rejected control is a trouble that only an accepted calibration ends; each accepted calibration is followed by
controls. A power cut ends a calibration without a result, and controls are not measured while the power is off.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from random import Random
from typing import Any, Protocol

import simpy

from sim.engine.streams import branch
from sim.instruments.model import InstrumentModel
from sim.instruments.quality import Controls
from sim.instruments.trouble import Catalogue, Troubles
from sim.units import DAY_NS
from wire.messages import Assay, Calibration, Quality, Report

Process = Generator[simpy.Event, object, None]


class Emit(Protocol):
    """The function that submits a report to the instrument's agent, which adds number and time."""

    def __call__(self, kind: type[Report], /, *fields: Any) -> None:
        """Submit a report of type `kind`; `fields` are the fields that `kind` adds to those of `Report`."""
        ...


class Assurance:
    """The calibrations and quality controls of one analyzer."""

    def __init__(
        self,
        model: InstrumentModel,
        env: simpy.Environment,
        random: Random,
        emit: Emit,
        troubles: Troubles,
        catalogue: Catalogue,
        worn: Callable[[Assay], tuple[float, float]],
    ) -> None:
        """`worn(assay)` returns the bias in SD and the imprecision that worn parts cause now."""
        self._worn = worn
        self._model, self._env, self._emit = model, env, emit
        self._troubles, self._catalogue = troubles, catalogue
        now_ns, valid_ns = int(env.now), model.calibration_valid_ns
        self._controls = {assay: Controls(branch(random), now_ns, valid_ns) for assay in model.controls}
        self._calibrating: set[Assay] = set()
        self._controlling = False
        self.powered = True

    @property
    def calibrating(self) -> bool:
        """Whether a calibration is in progress."""
        return bool(self._calibrating)

    def change_lot(self, assay: Assay) -> None:
        """Shift the bias of an assay after a change of its reagent lot; does nothing for assays without controls."""
        if assay in self._controls:
            self._controls[assay].change_lot()

    def check_ages(self) -> None:
        """Alert for each assay whose calibration has expired."""
        for assay, controls in self._controls.items():
            age_ns = controls.age_ns(int(self._env.now))
            if age_ns >= self._model.calibration_valid_ns:
                self._troubles.begin(self._catalogue.assay[assay].due, age_ns // DAY_NS)

    def calibrate(self, assay: Assay) -> None:
        """Start a calibration, followed by controls; does nothing if one is in progress."""
        self._troubles.end(self._catalogue.assay[assay].refused.code)
        if assay not in self._calibrating:
            self._calibrating.add(assay)
            self._env.process(self._calibrate(assay))

    def control_all(self) -> None:
        """Start the controls of all assays; does nothing if they are in progress."""
        if not self._controlling:
            self._env.process(self._control_all())

    def _calibrate(self, assay: Assay) -> Process:
        yield self._env.timeout(self._model.calibration_ns)
        self._calibrating.discard(assay)
        if not self.powered:
            return
        curve = self._controls[assay].calibrate(int(self._env.now), self._worn(assay)[0])
        self._emit(Calibration, assay, curve.slope_ppm, curve.offset_ppm, curve.accepted)
        troubles = self._catalogue.assay[assay]
        if not curve.accepted:
            self._troubles.begin(troubles.refused)
            return
        self._troubles.end(troubles.rejected.code, troubles.due.code)
        yield from self._run_controls((assay,))

    def _control_all(self) -> Process:
        self._controlling = True
        yield from self._run_controls(self._model.controls)
        self._controlling = False

    def _run_controls(self, assays: tuple[Assay, ...]) -> Process:
        for level in range(1, self._model.control_levels + 1):
            for assay in assays:
                yield self._env.timeout(self._model.control_every_ns)
                if self.powered:
                    self._control(assay, level)

    def _control(self, assay: Assay, level: int) -> None:
        deviation_msd, rejected = self._controls[assay].measure(int(self._env.now), *self._worn(assay))
        self._emit(Quality, assay, level, deviation_msd)
        if rejected:
            self._troubles.begin(self._catalogue.assay[assay].rejected, deviation_msd)
