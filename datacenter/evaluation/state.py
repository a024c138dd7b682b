"""The state of an instrument's triggers in the database, which survives changes of the set of triggers.

Only values that differ from the initial ones are kept, under a hash of their names. A trigger or term that is new
begins without a past, and one that was removed is forgotten.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final

import msgspec

from datacenter.triggers.live import LiveEvaluator, LiveFunctions

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[int, dict[int, int]]).decode


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
    return _encode((evaluator.now_ms, changed))


def restored(functions: LiveFunctions, saved: bytes) -> LiveEvaluator:
    """Return an evaluator that continues with what `save_state` gave."""
    evaluator = LiveEvaluator(functions)
    now_ms, changed = _decode(saved)
    evaluator.now_ms = now_ms
    for place, name in enumerate(functions.program.names):
        evaluator.state[place] = changed.get(_key(name), evaluator.state[place])
    return evaluator
