"""The data of an instrument model, which `sim.instruments.instrument` simulates.

An analyzer counts **cycles** (the pipetting period that limits its throughput) and **samples**. For each sample a
panel is ordered, which takes cycles and reagents. Error codes contain the index of their subject in one of the tuples
here, so new entries must be appended at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

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

    Its readings are multiples of `step`, the resolution of the channel. They deviate from `setpoint` slowly by
    `wander`, and from one reading to the next by `noise`, both standard deviations. The instrument sends an alert if
    a reading is outside of `low` to `high`.
    """

    channel: Channel
    component: Component
    setpoint: int
    step: int
    low: int
    high: int
    noise: float
    """The white noise of sensor, converter and process, such as the pulsation of a pump."""
    wander: float
    """The slow deviation that the regulation leaves."""
    wander_ns: int = 15 * MINUTE_NS
    """The time constant of the slow deviation."""
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
class Shift:
    """The readings of a channel shift by `by` of the channel's units."""

    channel: Channel
    by: float


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of a channel's readings grows to `times` its value."""

    channel: Channel
    times: float


@dataclass(frozen=True, slots=True)
class Bias:
    """The controls of these assays deviate by `sd` standard deviations; a calibration compensates for it."""

    assays: tuple[Assay, ...]
    sd: float


@dataclass(frozen=True, slots=True)
class Imprecision:
    """The standard deviation of the controls of these assays grows to `times` its value."""

    assays: tuple[Assay, ...]
    times: float


@dataclass(frozen=True, slots=True)
class Errors:
    """The mishap with this code occurs `per_day` times a day, in addition to its own rate."""

    code: str
    per_day: float


Symptom: TypeAlias = Shift | Noise | Bias | Imprecision | Errors
"""An observable effect of a worn part; the figures are those at its failure."""


@dataclass(frozen=True, slots=True)
class Wear:
    """A part that degrades over days to weeks before it fails: see `sim.instruments.physics.wear`.

    The part degrades from a random time after its installation. The symptoms grow with the elapsed share of the time
    from then to its failure, raised to the power of `growth`. At the failure the instrument sends an alert and stops
    until service has replaced the part.
    """

    component: Component
    part: str
    """A spare part of the component, as the profile lists it."""
    starts_after_days: float
    """The mean time from the installation of the part to the start of its degradation."""
    lasts_days: tuple[float, float]
    """The shortest and the longest time from the start of the degradation to the failure."""
    symptoms: tuple[Symptom, ...]
    growth: float = 1.5
    stable: float = 0.2
    """The probability that the degradation ends at a moderate level, without a failure."""
    sudden: float = 0.1
    """The probability that the part fails at once, without symptoms."""


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
    wear: tuple[Wear, ...] = ()
    """The parts that degrade; each has the alert D01 with its index, which is sent when it fails."""
    lamp: Lamp | None = None
    calibration_ns: int = 12 * MINUTE_NS
    calibration_valid_ns: int = 28 * DAY_NS
    control_every_ns: int = MINUTE_NS
    """The time from one quality-control result to the next."""
    warm_up_ns: int = 20 * MINUTE_NS
