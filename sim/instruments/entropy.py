"""The entropy of an instrument's status, given all statuses before it: the limit of any lossless compression.

The distribution that generates a status is known here, but not to a compressor. A reading, given those before, has a
normal distribution, whose mean and variance a Kalman filter computes from the true parameters of the gauge; rounding
to the resolution adds a variance of 1/12 step² to what the filter observes. The counts of samples, cycles and waiting
samples follow a Poisson process and the choice of panels, whose probabilities are computed exactly.

The number, time, state, lamp hours and fill levels of a status follow from these and from the statuses before, and
count as 0 bits.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from random import Random
from statistics import NormalDist, fmean

from sim.engine.streams import branch
from sim.instruments.model import InstrumentModel
from sim.instruments.physics.gauge import Gauge
from sim.instruments.physics.shelf import ReagentShelf
from sim.instruments.workload import Workload
from sim.units import DAY_NS, HOUR_NS

_TAIL_SD = 8


def status_bits(model: InstrumentModel, every_ns: int, seed: int, statuses: int = 2_000) -> float:
    """Return the mean entropy in bits of a status of a healthy instrument that reports at that interval."""
    random = Random(seed)
    gauges = sum(gauge_bits(Gauge(s, branch(random), 0), every_ns, statuses) for s in model.sensors)
    return gauges + workload_bits(model, branch(random), every_ns)


def gauge_bits(gauge: Gauge, every_ns: int, readings: int) -> float:
    """Return the mean entropy in bits of a gauge's reading, given its previous readings."""
    bits = []
    deviation, variance = 0.0, (gauge.sensor.wander / gauge.sensor.step) ** 2
    for turn in range(1, readings + 1):
        value = gauge.read(turn * every_ns) / gauge.sensor.step
        deviation, variance = gauge._decay * deviation, gauge._decay**2 * variance + gauge._kick**2
        mean = gauge._centre + deviation
        bits.append(rounded_normal_bits(mean, math.sqrt(variance + gauge._noise_worn**2)))
        gain = variance / (variance + gauge._noise_worn**2 + 1 / 12)
        deviation, variance = deviation + gain * (value - mean), (1 - gain) * variance
    return fmean(bits)


def rounded_normal_bits(mean: float, sd: float) -> float:
    """Return the entropy in bits of a normal random number that is rounded to an integer."""
    if sd == 0:
        return 0.0
    first, last = math.floor(mean - _TAIL_SD * sd), math.ceil(mean + _TAIL_SD * sd)
    below = [NormalDist(mean, sd).cdf(edge + 0.5) for edge in range(first - 1, last + 1)]
    return entropy_bits(after - before for before, after in pairwise(below))


def workload_bits(model: InstrumentModel, random: Random, every_ns: int) -> float:
    """Return the mean entropy in bits of the counts in a status, over a day."""
    shelf = ReagentShelf(model.reagents, branch(random), lambda _assay, _left: None)
    workload = Workload(model, random, shelf, 0, 0)
    bits = []
    for now_ns in range(every_ns, DAY_NS + 1, every_ns):
        queue, credit, done = workload.queue, workload._credit, workload.samples
        mean = workload._arrivals.expected_between(now_ns - every_ns, now_ns)
        workload.advance(now_ns, may_work=True)
        arrived = workload.queue + workload.samples - done - queue
        credit += every_ns * model.cycles_per_hour / HOUR_NS
        bits.append(_poisson_bits(mean) + _work_bits(model, queue + arrived, credit))
    return fmean(bits)


def _poisson_bits(mean: float) -> float:
    count_max = math.ceil(mean + 20 * math.sqrt(mean) + 20)
    return entropy_bits(math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(count_max))


def _work_bits(model: InstrumentModel, queue: int, credit: float) -> float:
    """Return the entropy of the numbers of samples and cycles that are processed, given the queue and the budget."""
    total = sum(panel.weight for panel in model.panels)
    ends: dict[tuple[int, int], float] = defaultdict(float)
    going: dict[int, float] = {0: 1.0}
    for samples in range(queue + 1):
        further: dict[int, float] = defaultdict(float)
        for cycles, probability in going.items():
            if samples == queue or credit - cycles <= 0:
                ends[samples, cycles] += probability
                continue
            for panel in model.panels:
                further[cycles + panel.cycles] += probability * panel.weight / total
        going = further
    return entropy_bits(ends.values())


def entropy_bits(probabilities: Iterable[float]) -> float:
    """Return the entropy in bits of a distribution."""
    return -sum(p * math.log2(p) for p in probabilities if p > 0)
