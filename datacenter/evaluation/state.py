"""The state of an instrument's triggers in the database, which survives changes of the set of triggers.

Only values that differ from the initial ones are kept, under a hash of their names. A trigger or term that is new
begins without a past, and one that was removed is forgotten. Each term is stored with the report with which it began,
so that its value can be computed again from the reports since then.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from itertools import compress
from operator import ne
from typing import Final, NamedTuple

import msgspec

from datacenter.triggers.live import LiveEvaluator, LiveFunctions
from datacenter.triggers.program import Program
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


class _Keys(NamedTuple):
    """The keys of the variables and the terms of a program, in order, and the index of each variable."""

    variables: list[int]
    terms: list[int]
    indexes: dict[int, int]


@lru_cache(maxsize=1024)
def _keys(program: Program) -> _Keys:
    variables = [_key(name) for name in program.names]
    terms = [_key(program.name_of(term)) for term in program.terms]
    return _Keys(variables, terms, {key: index for index, key in enumerate(variables)})


def _key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=6).digest())


def save_state(evaluator: LiveEvaluator) -> bytes:
    """Encode the state of an evaluator."""
    keys, state = _keys(evaluator.program), evaluator.state
    is_changed = list(map(ne, state, evaluator.program.initial))
    changed = dict(zip(compress(keys.variables, is_changed), compress(state, is_changed), strict=True))
    starts = {
        key: start for key, start in zip(keys.terms, evaluator.starts, strict=True) if start is not None
    }
    return _encode(_Saved(evaluator.now_ms, changed, starts))


def restored(functions: LiveFunctions, saved: bytes, bases: Bases = no_base) -> LiveEvaluator:
    """Return an evaluator that continues from the result of `save_state`."""
    evaluator = LiveEvaluator(functions, bases)
    decoded, keys = _decode(saved), _keys(functions.program)
    evaluator.now_ms = decoded.now_ms
    for key, value in decoded.changed.items():
        if (index := keys.indexes.get(key)) is not None:
            evaluator.state[index] = value
    if decoded.starts is None:
        evaluator.starts = [_UNKNOWN] * len(keys.terms)
    else:
        evaluator.starts = [decoded.starts.get(key) for key in keys.terms]
    return evaluator
