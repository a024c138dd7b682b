"""Back-tests of a set of triggers on simulated histories, divided among processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, as_completed
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from datacenter.scoring.matching import AlertStart, TrueDegradation
from datacenter.scoring.outcome import InstrumentOutcome
from datacenter.triggers.live import LiveEvaluator, LiveFunctions
from datacenter.triggers.triggerfile import Trigger, TriggerTable, make_trigger
from sim.backtest.base import Percentiles, base_terms, bases_of, simulated_base
from sim.backtest.histories import simulated_history
from sim.instruments.physics.part_wear import PartWear
from sim.units import DAY_NS, MILLISECOND_NS

BLOCK: Final = 10_000
"""Number of reports that are read and evaluated together, which bounds the memory."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(dict[str, TriggerTable]).decode
_DAY_MS: Final = DAY_NS // MILLISECOND_NS


def run_tests(
    triggers: Sequence[Trigger], seeds: Sequence[int], days: int, folder: Path, executor: Executor
) -> Iterator[InstrumentOutcome]:
    """Test the triggers on an instrument for each of their models and each seed, in any order.

    `folder` keeps the histories. Raises: OSError.
    """
    models = sorted({trigger.table.model for trigger in triggers})
    of_model = {
        model: _encode({trigger.name: trigger.table for trigger in triggers if trigger.table.model == model})
        for model in models
    }
    bases = {
        model: simulated_base(
            base_terms(trigger for trigger in triggers if trigger.table.model == model),
            model,
            seeds,
            days,
            folder,
            executor,
        )
        for model in models
    }
    futures = [
        executor.submit(run_test, model, of_model[model], seed, days, folder, bases[model])
        for seed in seeds
        for model in models
    ]
    for future in as_completed(futures):
        yield future.result()


def run_test(
    model: str, tables: bytes, seed: int, days: int, folder: Path, base: Percentiles
) -> InstrumentOutcome:
    """Test the triggers of `tables` (MessagePack, by name) on the instrument with a model and seed.

    Raises: OSError.
    """
    history = simulated_history(model, seed, days, folder)
    evaluator = LiveEvaluator(_functions(tables), bases_of(base))
    alarms = []
    count, seconds = 0, 0.0
    reports = history.reports()
    while block := list(islice(reports, BLOCK)):
        began = time.process_time()
        for report in block:
            for change in evaluator.evaluate(report):
                if change.is_active:
                    alarms.append(AlertStart(change.trigger.name, change.at_ms))
        seconds += time.process_time() - began
        count += len(block)
    degradations = [_degradation(part) for part in history.wear]
    return InstrumentOutcome(model, days * _DAY_MS, count, seconds, alarms, degradations)


@lru_cache(maxsize=64)
def _functions(tables: bytes) -> LiveFunctions:
    return LiveFunctions([make_trigger(name, table) for name, table in _decode(tables).items()])


def _degradation(part: PartWear) -> TrueDegradation:
    return TrueDegradation(
        part.component,
        part.part,
        part.course,
        part.began_ns // MILLISECOND_NS,
        None if part.failed_ns is None else part.failed_ns // MILLISECOND_NS,
        None if part.replaced_ns is None else part.replaced_ns // MILLISECOND_NS,
    )
