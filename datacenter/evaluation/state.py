"""The state of an instrument's triggers in the database, which survives changes of the set of triggers.

Only values that differ from the initial ones are kept, under a hash of their names. A trigger or term that is new
begins without a past, and one that was removed is forgotten. With each term is kept with which report it began, so
that its value can be computed again from the reports since then.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final

import msgspec

from datacenter.triggers.live import LiveEvaluator, LiveFunctions
from datacenter.triggers.terms.base import Bases, no_base


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    now_ms: int
    changed: dict[int, int]
    starts: dict[int, tuple[int, int]] | None = None
    """By term, run and number of the first report; None in states of earlier versions."""


_UNKNOWN: Final = (0, 0)
"""The start of a term whose first report was not recorded: all stored reports count."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Saved).decode


@lru_cache(maxsize=65_536)
def _key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=6).digest())


def save_state(evaluator: LiveEvaluator) -> bytes:
    """Return the state of an evaluator."""
    program = evaluator.program
    changed = {
        _key(name): value
        for name, value, initial in zip(program.names, evaluator.state, program.initial, strict=True)
        if value != initial
    }
    starts = {_key(program.name_of(term)): place for term, place in evaluator.starts.items()}
    return _encode(_Saved(evaluator.now_ms, changed, starts))


def restored(functions: LiveFunctions, saved: bytes, bases: Bases = no_base) -> LiveEvaluator:
    """Return an evaluator that continues with what `save_state` gave."""
    evaluator = LiveEvaluator(functions, bases)
    found = _decode(saved)
    evaluator.now_ms = found.now_ms
    for place, name in enumerate(functions.program.names):
        evaluator.state[place] = found.changed.get(_key(name), evaluator.state[place])
    for term in functions.program.terms:
        if found.starts is None:
            evaluator.starts[term] = _UNKNOWN
        elif (start := found.starts.get(_key(functions.program.name_of(term)))) is not None:
            evaluator.starts[term] = start
    return evaluator
