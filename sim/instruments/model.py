"""The data of an instrument model, which `sim.instruments.instrument` simulates.

An analyzer counts **cycles** (the pipetting period that limits its throughput) and **samples**. For each sample a
panel is ordered, which takes cycles and reagents. Error codes contain the index of their subject in one of the tuples
here, so new entries must be appended at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

from settings.profile import Severity
from sim.units import DAY_NS, MINUTE_NS
from wire.messages import Assay, Channel, Component


@dataclass(frozen=True, slots=True)
class Panel:
    """A set of tests ordered for one sample; `weight` is its relative frequency."""

    weight: float
    cycles: int
    uses: tuple[Assay, ...]
    """The reagents; each sample uses one test of each."""


@dataclass(frozen=True, slots=True)
class Reagent:
    """A reagent on board: the number of tests in a full pack, and the number left at which a warning is sent."""

    assay: Assay
    capacity: int
    low: int
    essential: bool = False
    """Whether no sample can be processed without it; otherwise only its own tests are left out."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """A regulated quantity, in the unit of its channel.

    Its readings fluctuate around `setpoint` by at most `span` steps of `step`, with one step per `hop_ns` on average.
    The instrument sends an alert if a reading is outside of `low` to `high`.
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
    """The value at which it starts after a power cut; None: it starts at its setpoint."""
    drifts_per_day: float = 0.0
    """How often a spontaneous drift starts, on average."""


@dataclass(frozen=True, slots=True)
class Lamp:
    """A lamp that ages while it is on; its intensity falls from 100 % to 70 % over its life."""

    hours: Channel
    life_h: int
    intensity: Channel | None = None


@dataclass(frozen=True, slots=True)
class Mishap:
    """A random problem that an operator must resolve, such as a clot or unreadable barcodes."""

    code: str
    component: Component
    severity: Severity
    per_day: float
    value_max: int
    """The largest number of affected samples, which the alert contains."""
    stops: bool = False


@dataclass(frozen=True, slots=True)
class InstrumentModel:
    """One model of analyzer. Counts are per instrument."""

    name: str
    summary: str
    cycles_per_hour: int
    samples_per_day: int
    """The number of samples that an average laboratory processes on it."""
    queue_max: int
    """The number of samples that its track holds; further ones are taken to another analyzer."""
    counter: Channel
    """The channel that counts its cycles since power-on."""
    panels: tuple[Panel, ...]
    reagents: tuple[Reagent, ...]
    sensors: tuple[Sensor, ...]
    controls: tuple[Assay, ...]
    """The assays that have calibrations and quality controls."""
    control_levels: int
    waste_samples: int
    """Samples until the waste container is full."""
    mishaps: tuple[Mishap, ...]
    lamp: Lamp | None = None
    calibration_ns: int = 12 * MINUTE_NS
    calibration_valid_ns: int = 28 * DAY_NS
    control_every_ns: int = MINUTE_NS
    """The time from one quality-control result to the next."""
    warm_up_ns: int = 20 * MINUTE_NS
