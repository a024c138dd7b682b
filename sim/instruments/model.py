"""What a model of analyzer is: data. `sim.instruments.instrument` makes one of them live.

Counts of an analyzer are per **cycle** (the pipetting period that bounds its throughput) and per **sample**; a
sample asks for a panel, and a panel takes cycles and reagents. Error codes are positions: a letter for the
kind and the place in its tuple here, so these tuples only ever grow at their ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from sim.units import DAY_NS, MINUTE_NS
from wire.vocabulary import Assay, Channel, Component, Severity


@dataclass(frozen=True, slots=True)
class Panel:
    """What a sample may ask for: how often (relative to the others), and what one takes."""

    weight: float
    cycles: int
    uses: tuple[Assay, ...]
    """One test of each is taken from the shelf."""


@dataclass(frozen=True, slots=True)
class Reagent:
    """A place on the shelf: how many tests it holds, and at how many left a person is asked for."""

    assay: Assay
    capacity: int
    low: int
    essential: bool = False
    """Without it nothing runs; without another only its own tests are left out."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """A regulated quantity as the instrument shows it, in the unit of its channel.

    It wanders around `setpoint` by at most `span` steps of `step`, moving about once in `hop_ns`. Outside of
    `low` … `high` the instrument alerts.
    """

    channel: Channel
    component: Component
    setpoint: int
    step: int
    low: int
    high: int
    span: int = 2
    hop_ns: int = 3 * MINUTE_NS
    cold: int | None = None
    """Where it starts from after a power cut; None: at its setpoint at once."""
    drifts_per_day: float = 0.0
    """How often it starts to drift away by itself."""


@dataclass(frozen=True, slots=True)
class Lamp:
    """A lamp that ages while it burns; its intensity falls from 100 % to 70 % over its life."""

    hours: Channel
    life_h: int
    intensity: Channel | None = None


@dataclass(frozen=True, slots=True)
class Mishap:
    """Something that happens now and then and wants a person: a clot, a run of unreadable barcodes."""

    code: str
    component: Component
    severity: Severity
    per_day: float
    value_max: int
    """Its alert carries how many samples it concerns: 1 to this many."""
    stops: bool = False


@dataclass(frozen=True, slots=True)
class InstrumentModel:
    """One model of analyzer."""

    name: str
    summary: str
    cycles_per_hour: int
    samples_per_day: int
    """What an average laboratory brings it."""
    queue_max: int
    """Samples its track holds; what comes beyond that is taken to another analyzer."""
    counter: Channel
    """The channel that counts its cycles since power-on."""
    panels: tuple[Panel, ...]
    reagents: tuple[Reagent, ...]
    sensors: tuple[Sensor, ...]
    controls: tuple[Assay, ...]
    """What has calibrations and quality controls."""
    control_levels: int
    waste_samples: int
    """Samples until the waste container is full."""
    mishaps: tuple[Mishap, ...]
    lamp: Lamp | None = None
    calibration_ns: int = 12 * MINUTE_NS
    calibration_valid_ns: int = 28 * DAY_NS
    control_every_ns: int = MINUTE_NS
    """From one quality-control result to the next."""
    warm_up_ns: int = 20 * MINUTE_NS
