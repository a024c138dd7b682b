"""The degradation of an instrument's parts over days to weeks, and the ground truth about it.

Each part of the model's `wear` degrades from a random time after its installation (Weibull distribution with shape 2,
because a used part degrades more often than a new one). Its course is one of three: it degrades until it fails, it
degrades to a moderate level and stays there, or it fails suddenly, without symptoms. The symptoms grow continuously
and are seen only in what an instrument reports: readings, controls, error counts, and the alert of the failure. A
replacement of the part ends the episode, and the new part begins to degrade after another random time.

`Degradation.truth` contains when each episode began and when the part fails or would have failed, so that predictions
can be scored. Each part has its own random stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

import simpy

from sim.engine.streams import branch
from sim.instruments.assurance import Process
from sim.instruments.model import Bias, Errors, Imprecision, InstrumentModel, Noise, Shift, Wear
from sim.instruments.physics.part_wear import PartWear
from sim.instruments.trouble import Catalogue
from sim.units import DAY_NS
from wire.messages import Assay, Channel

STARTS_SHAPE: Final = 2.0
"""The shape of the Weibull distribution of the time until a part starts to degrade."""
STABLE_SHARE: Final = (0.2, 0.5)
"""A stable degradation stops at a share of the way to failure that is drawn from this range."""


@dataclass(slots=True)
class Episode:
    """One degradation of one part; `index` is the index of its `Wear` in the model."""

    wear: Wear
    index: int
    course: Literal["failing", "stable", "sudden"]
    began_ns: int
    lasts_ns: int
    """The time from the beginning to the failure; for a stable course, the time that it would take without a stop."""
    share_max: float
    replaced: simpy.Event
    failed_ns: int | None = None
    replaced_ns: int | None = None

    def level(self, now_ns: int) -> float:
        """Return the strength of the symptoms, from 0.0 at the beginning to 1.0 at the failure."""
        if self.course == "sudden":
            return 0.0
        share = min((now_ns - self.began_ns) / self.lasts_ns, self.share_max)
        return float(share**self.wear.growth)

    @property
    def due_ns(self) -> int | None:
        """The time at which the part fails unless it is replaced; None if it does not."""
        return None if self.course == "stable" else self.began_ns + self.lasts_ns


@dataclass(slots=True)
class Symptoms:
    """The sum of the symptoms of all worn parts at one time."""

    shift: dict[Channel, float] = field(default_factory=dict)
    noise: dict[Channel, float] = field(default_factory=dict)
    bias_sd: dict[Assay, float] = field(default_factory=dict)
    imprecision: dict[Assay, float] = field(default_factory=dict)

    def add(self, wear: Wear, level: float) -> None:
        """Add the symptoms of one part at that level; factors multiply."""
        for symptom in wear.symptoms:
            match symptom:
                case Shift(channel, by):
                    self.shift[channel] = self.shift.get(channel, 0.0) + by * level
                case Noise(channel, times):
                    self.noise[channel] = self.noise.get(channel, 1.0) * (1 + (times - 1) * level)
                case Bias(assays, sd):
                    for assay in assays:
                        self.bias_sd[assay] = self.bias_sd.get(assay, 0.0) + sd * level
                case Imprecision(assays, times):
                    for assay in assays:
                        factor = 1 + (times - 1) * level
                        self.imprecision[assay] = self.imprecision.get(assay, 1.0) * factor


class Degradation:
    """The parts of one instrument that degrade.

    `failed(index)` is called when a part fails, and `error(code)` when a worn part causes one of the model's mishaps.
    """

    def __init__(
        self,
        model: InstrumentModel,
        env: simpy.Environment,
        random: Random,
        failed: Callable[[int], None],
        error: Callable[[str], None],
    ) -> None:
        self._model, self._env = model, env
        self._failed, self._error = failed, error
        self.active: list[Episode] = []
        """The episodes that no replacement has ended."""
        self.episodes: list[Episode] = []
        """All episodes, in the order in which they began."""
        for index, wear in enumerate(model.wear):
            env.process(self._wear_forever(index, wear, branch(random)))

    def symptoms(self) -> Symptoms:
        """Return the symptoms now."""
        symptoms, now_ns = Symptoms(), int(self._env.now)
        for episode in self.active:
            symptoms.add(episode.wear, episode.level(now_ns))
        return symptoms

    def replace(self, index: int) -> None:
        """Replace a part, which ends its episode if it has one."""
        for episode in self.active:
            if episode.index == index:
                episode.replaced_ns = int(self._env.now)
                episode.replaced.succeed()
        self.active = [episode for episode in self.active if episode.index != index]

    def truth(self, serial: str) -> tuple[PartWear, ...]:
        """Return all episodes until now, in the order in which they began."""
        failed = Catalogue(self._model).failed
        return tuple(_truth(e, self._model, failed[e.index].code, serial) for e in self.episodes)

    def _wear_forever(self, index: int, wear: Wear, random: Random) -> Process:
        remaining_share = random.random()  # the parts of an instrument in service are not all new
        while True:
            scale_days = wear.starts_after_days / math.gamma(1 + 1 / STARTS_SHAPE)
            yield self._env.timeout(
                int(random.weibullvariate(scale_days, STARTS_SHAPE) * remaining_share * DAY_NS)
            )
            remaining_share = 1.0
            episode = self._begin(index, wear, random)
            if episode.due_ns is not None:
                yield self._env.timeout(episode.due_ns - int(self._env.now)) | episode.replaced
                if not episode.replaced.triggered:
                    episode.failed_ns = int(self._env.now)
                    self._failed(index)
            yield episode.replaced

    def _begin(self, index: int, wear: Wear, random: Random) -> Episode:
        """Begin an episode. Each course draws equally many random numbers, so that it does not change later ones."""
        chance, stable_share = random.random(), random.uniform(*STABLE_SHARE)
        lasts_ns = int(random.uniform(*wear.lasts_days) * DAY_NS)
        course: Literal["failing", "stable", "sudden"] = "failing"
        if chance < wear.stable:
            course = "stable"
        elif chance < wear.stable + wear.sudden:
            course, lasts_ns = "sudden", 0
        share_max = stable_share if course == "stable" else 1.0
        episode = Episode(wear, index, course, int(self._env.now), lasts_ns, share_max, self._env.event())
        self.active.append(episode)
        self.episodes.append(episode)
        errors = branch(random)
        for symptom in wear.symptoms:
            if isinstance(symptom, Errors) and course != "sudden":
                self._env.process(self._cause_errors(episode, symptom, branch(errors)))
        return episode

    def _cause_errors(self, episode: Episode, errors: Errors, random: Random) -> Process:
        """Cause mishaps at a rate that grows with the level: a Poisson process, thinned."""
        while True:
            yield self._env.timeout(int(random.expovariate(errors.per_day) * DAY_NS))
            if episode.replaced_ns is not None or episode.failed_ns is not None:
                return
            if random.random() < episode.level(int(self._env.now)):
                self._error(errors.code)


def _truth(episode: Episode, model: InstrumentModel, code: str, serial: str) -> PartWear:
    wear = episode.wear
    readings = [s.channel for s in wear.symptoms if isinstance(s, Shift | Noise)]
    assays = [assay for s in wear.symptoms if isinstance(s, Bias | Imprecision) for assay in s.assays]
    return PartWear(
        serial=serial,
        model=model.name,
        component=wear.component,
        part=wear.part,
        code=code,
        channels=tuple(dict.fromkeys(readings)),
        assays=tuple(dict.fromkeys(assays)),
        codes=tuple(s.code for s in wear.symptoms if isinstance(s, Errors)),
        course=episode.course,
        began_ns=episode.began_ns,
        due_ns=episode.due_ns,
        failed_ns=episode.failed_ns,
        replaced_ns=episode.replaced_ns,
    )
