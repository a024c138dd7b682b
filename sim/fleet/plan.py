"""The plan of a simulated fleet: the boxes at each site, their instruments, and the outages of their lines.

The number of instruments and the seed determine the plan. Times are nanoseconds since the beginning of the history.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final, NamedTuple

from sim.engine.streams import stream
from sim.fleet.places import PLACES, Place
from sim.instruments import model_names
from sim.units import DAY_NS, HOUR_NS

INSTRUMENTS_MAX: Final = 20_000
INSTRUMENTS_PER_BOX: Final = 4
OUTAGE_EVERY_NS: Final = 15 * DAY_NS
"""The mean time between two outages of a box's line."""
OUTAGE_MEDIAN_NS: Final = 4 * HOUR_NS
OUTAGE_SIGMA: Final = 0.9
FUTURE_NS: Final = 400 * DAY_NS
"""Time after the history for which outages are planned."""
LOSS_SHARE: Final = 0.2
"""The share of outages in which the box loses records."""
TEMPLATES: Final = 4
"""Number of simulated histories of each model."""
MOVED_DAYS: Final = 14
"""Number of different shifts of a shared history."""
_OFF_SHARE: Final = 0.15
_PREFIXES: Final = {
    "batch-chemistry-analyzer": "BATCH",
    "blood-cell-counter": "CELL",
    "blood-gas-analyzer": "GAS",
    "chemistry-analyzer": "CHEM",
    "electrolyte-analyzer": "ISE",
    "hematology-analyzer": "HEMA",
    "immunoassay-analyzer": "IMMU",
    "modular-analyzer": "MOD",
}


class Outage(NamedTuple):
    """A time in which a box cannot send; if `loses_records`, it loses a part of what it stored meanwhile."""

    since_ns: int
    until_ns: int
    loses_records: bool


class PlannedInstrument(NamedTuple):
    """An instrument; `rests` if it is switched off at night.

    Its reports are those of a shared history from the day `moved_days` on (`sim.fleet.shared`).
    """

    serial: str
    model: str
    rests: bool
    template: int
    moved_days: int


class PlannedBox(NamedTuple):
    """A box at a site. `outages` are ordered by time, and do not overlap."""

    serial: str
    place: Place
    instruments: tuple[PlannedInstrument, ...]
    outages: tuple[Outage, ...]


def plan_fleet(instruments: int, days: int, seed: int) -> list[PlannedBox]:
    """Return the boxes of a fleet; the last of several boxes is offline at the end of the history."""
    models = model_names()
    count = -(-instruments // INSTRUMENTS_PER_BOX)
    boxes = []
    for position in range(count):
        serial = f"RAP-{position + 1:04}"
        random = stream(seed, f"fleet/{serial}")
        first = position * INSTRUMENTS_PER_BOX
        numbers = range(first, min(first + INSTRUMENTS_PER_BOX, instruments))
        # the models alternate by box and by site, so that each site has several
        box_instruments = tuple(
            _instrument(number, position, models[(number + position) % len(models)], random)
            for number in numbers
        )
        outages = tuple(_outages(random, days * DAY_NS, is_down=position == count - 1 and count > 1))
        boxes.append(PlannedBox(serial, PLACES[position % len(PLACES)], box_instruments, outages))
    return boxes


def _instrument(number: int, position: int, model: str, random: Random) -> PlannedInstrument:
    """Return an instrument of the box at `position`. A box uses one template, so that a process simulates few."""
    prefix = _PREFIXES.get(model, "INST")
    moved_days = position // TEMPLATES % MOVED_DAYS
    rests = random.random() < _OFF_SHARE
    return PlannedInstrument(f"{prefix}-{number + 1:04}", model, rests, position % TEMPLATES, moved_days)


def _outages(random: Random, history_ns: int, *, is_down: bool) -> Iterator[Outage]:
    """Yield outages; if `is_down`, one lasts from 20 hours before the end of the history until 30 hours after it."""
    begin_ns, end_ns = (history_ns - 20 * HOUR_NS, history_ns + 30 * HOUR_NS) if is_down else (0, 0)
    now_ns = 0
    while now_ns < history_ns + FUTURE_NS:
        since_ns = now_ns + int(random.expovariate(1 / OUTAGE_EVERY_NS))
        until_ns = since_ns + int(OUTAGE_MEDIAN_NS * random.lognormvariate(0.0, OUTAGE_SIGMA))
        if now_ns < begin_ns <= until_ns:
            yield Outage(begin_ns, end_ns, loses_records=False)
            now_ns = end_ns
            continue
        yield Outage(since_ns, until_ns, random.random() < LOSS_SHARE)
        now_ns = until_ns + 1
