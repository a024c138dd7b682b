"""Adaptive coding of columns of integers: a prediction from earlier values, and a Rice code of the difference.

A column is the sequence of one number in the reports of one instrument, such as a reading. Most columns are predicted
exactly (a counter, a time at equal intervals) and take one bit per batch. The readings of a sensor are predicted by a
moving average, and the differences, which are noise, take hardly more bits than their entropy: a Rice code with a
parameter that fits is within a few percent of it for a normal distribution wider than one unit.

Both ends keep the same state of each column from batch to batch. `Parameters` define the coding of a column in a
batch; the sender chooses them, and sends them only when they change.

Source: Rice, Plaunt, IEEE Trans. Commun. Tech. 19 (1971) 889–897.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from math import gcd
from operator import itemgetter
from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

SCALE_BITS: Final = 8
"""Fraction bits of a moving average."""
K_MAX: Final = 54
"""The largest Rice parameter: no number of a message has more bits."""
LATEST, LINEAR = 0, -1
"""The predictions other than moving averages: no change; the same change as last time."""
AVERAGES: Final = (1, 2, 3, 4, 5)
"""The moving averages: with the number n, the weight of the latest value is 2**-n."""
SWITCH_BITS: Final = 64
"""Parameters change when others would recently have saved more bits than this, about the cost of sending them."""
FORGET_SHIFT: Final = 3
"""Decay of the sum of saved bits: 1/8 per batch."""
ALL_TRIED: Final = 4
"""Number of initial batches in which all predictions are tried; afterwards one is tried besides that in force."""
PREDICTIONS: Final = (LATEST, LINEAR, *AVERAGES)
UNITS: Final = (100, 50, 20, 10, 5, 2)
"""Resolutions of readings that are recognized as units."""
VALUES_FOR_UNIT: Final = 6
"""Number of different values that must be multiples of a unit before it is used."""
COUNT_K: Final = 2
"""The Rice parameter of the number of differences in a sparse column."""


class RiceError(ValueError):
    """The bits are not a coded column."""


class Parameters(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The coding of a column: the prediction, the unit and the codes.

    Runs of differences of 0 are coded by their length with the parameter `runs_k`, unless it is -1. A `gated` column
    changes only in rows in which another column, its gate, changes; the other rows are omitted.
    """

    prediction: Annotated[int, Meta(ge=LINEAR, le=AVERAGES[-1])] = LATEST
    k: Annotated[int, Meta(ge=0, le=K_MAX)] = 0
    runs_k: Annotated[int, Meta(ge=-1, le=K_MAX)] = -1
    unit: Annotated[int, Meta(ge=1, le=1 << 32)] = 1
    gated: bool = False


class BitReader:
    """Reads Rice codes from bytes."""

    def __init__(self, data: bytes) -> None:
        self._bits = bin(int.from_bytes(b"\1" + data))[3:]
        self._at = 0

    def bit(self) -> bool:
        """Return the next bit. Raises: RiceError at the end."""
        self._at += 1
        if self._at > len(self._bits):
            raise RiceError("the bits end early")
        return self._bits[self._at - 1] == "1"

    def codes(self, count: int, k: int) -> list[int]:
        """Return the next `count` numbers, coded with the parameter `k`. Raises: RiceError at the end."""
        bits, at = self._bits, self._at
        numbers = []
        try:
            for _ in range(count):
                end = bits.index("1", at)
                numbers.append(end - at)
                at = end + 1
        except ValueError:
            raise RiceError("the bits end early") from None
        if k:
            low, at = bits[at : at + count * k], at + count * k
            if at > len(bits):
                raise RiceError("the bits end early")
            numbers = [high << k | int(low[i * k : i * k + k], 2) for i, high in enumerate(numbers)]
        self._at = at
        return numbers


def bits_to_bytes(bits: str) -> bytes:
    """Return the bits as bytes, padded with zeros."""
    bits += "0" * (-len(bits) % 8)
    return int(bits or "0", 2).to_bytes(len(bits) // 8)


AT_FIRST: Final = Parameters()


@dataclass(slots=True)
class Column:
    """The state of one column; `latest` is its latest value."""

    latest: int
    step: int = 0
    """The latest change of the value, for the prediction LINEAR."""
    average: int = 0
    """The moving average, scaled by SCALE_BITS, if that is the prediction."""
    parameters: Parameters = AT_FIRST

    def change(self, parameters: Parameters) -> None:
        """Use other parameters from now on."""
        if parameters.prediction != self.parameters.prediction:
            self.average = self.latest << SCALE_BITS
        if parameters.unit != self.parameters.unit:
            self.latest -= self.latest % parameters.unit
            self.step -= self.step % parameters.unit
        self.parameters = parameters

    def encode(self, values: Sequence[int], gate: Sequence[bool] = ()) -> str:
        """Return the next values as bits, with the parameters in force; `gate`: rows in which the gate changes."""
        if self.parameters.gated:
            values = list(compress(values, gate))
        return _encoded(self._differences(values), self.parameters) if values else ""

    def decode(self, bits: BitReader, count: int, gate: Sequence[bool] = ()) -> list[int]:
        """Return the next `count` values. Raises: RiceError."""
        if not self.parameters.gated:
            return self._decode(bits, count)
        latest = self.latest
        changing = iter(self._decode(bits, sum(gate)))
        return [latest := next(changing) if changes else latest for changes in gate]

    def _decode(self, bits: BitReader, count: int) -> list[int]:
        parameters = self.parameters
        if not count:
            return []
        if not bits.bit():
            return self._values([0] * count)
        if parameters.runs_k < 0:
            return self._values(_unfolded(bits.codes(count, parameters.k)))
        (others,) = bits.codes(1, COUNT_K)
        if others > count:
            raise RiceError("more differences than values")
        differences: list[int] = []
        runs = bits.codes(others, parameters.runs_k)
        if sum(runs) + others > count:
            raise RiceError("more differences than values")
        for run, number in zip(runs, bits.codes(others, parameters.k), strict=True):
            differences += [0] * run
            differences += _unfolded([number + 1])
        return self._values(differences + [0] * (count - len(differences)))

    def _differences(self, values: Sequence[int]) -> list[int]:
        """Return the differences of the next values from their predictions, in units; the state advances."""
        prediction, unit = self.parameters.prediction, self.parameters.unit
        latest, step = self.latest, self.step
        self.latest = values[-1]
        if prediction == LATEST:
            previous_values = [latest, *values]
            return [
                (value - previous) // unit for value, previous in zip(values, previous_values, strict=False)
            ]
        if prediction == LINEAR:
            differences = []
            for value in values:
                change = value - latest
                differences.append((change - step) // unit)
                latest, step = value, change
            self.step = step
            return differences
        return self._differences_from_average(values, prediction, unit)

    def _differences_from_average(self, values: Sequence[int], weight: int, unit: int) -> list[int]:
        average, differences = self.average, []
        half, scale = unit << SCALE_BITS - 1, unit << SCALE_BITS
        for value in values:
            differences.append(value // unit - (average + half) // scale)
            average += ((value << SCALE_BITS) - average) >> weight
        self.average = average
        return differences

    def _values(self, differences: Sequence[int]) -> list[int]:
        """Return the values with these differences from their predictions; the state advances."""
        prediction, unit = self.parameters.prediction, self.parameters.unit
        latest, step, values = self.latest, self.step, []
        if prediction == LATEST:
            for difference in differences:
                latest += difference * unit
                values.append(latest)
        elif prediction == LINEAR:
            for difference in differences:
                step += difference * unit
                latest += step
                values.append(latest)
            self.step = step
        else:
            average, half, scale = self.average, unit << SCALE_BITS - 1, unit << SCALE_BITS
            for difference in differences:
                latest = ((average + half) // scale + difference) * unit
                average += ((latest << SCALE_BITS) - average) >> prediction
                values.append(latest)
            self.average = average
        self.latest = latest
        return values


class Chooser:
    """Chooses the parameters of a column, at the sender."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self._batches = 0
        self._saving_bits = 0
        self._common_divisor = 0
        self._seen: set[int] = set()

    def choose(self, values: Sequence[int], gate: Sequence[bool] = ()) -> Parameters:
        """Return the parameters for the next values: those in force, unless others are clearly better."""
        in_force = self._column.parameters
        unit = self._unit(values)
        can_be_gated = self._can_be_gated(values, gate)
        best, bits = self._best(values, unit, gate if can_be_gated else ())
        if unit != in_force.unit or (in_force.gated and not can_be_gated):
            return self._switch(best)
        self._saving_bits -= self._saving_bits >> FORGET_SHIFT
        self._saving_bits += max(0, self._size(in_force, values, gate) - bits)
        return self._switch(best) if self._saving_bits > SWITCH_BITS else in_force

    def _switch(self, parameters: Parameters) -> Parameters:
        self._saving_bits = 0
        return parameters

    def _best(self, values: Sequence[int], unit: int, gate: Sequence[bool]) -> tuple[Parameters, int]:
        """Return the best parameters of those that are tried this time, and the bits for the values with them."""
        tried: Sequence[int] = PREDICTIONS
        if self._batches >= ALL_TRIED:
            tried = (self._column.parameters.prediction, PREDICTIONS[self._batches % len(PREDICTIONS)])
        self._batches += 1
        trials = [self._trial(values, Parameters(prediction, unit=unit)) for prediction in tried]
        if gate:
            trials.append(self._trial(list(compress(values, gate)), Parameters(unit=unit, gated=True)))
        return min(trials, key=itemgetter(1))

    def _trial(self, values: Sequence[int], parameters: Parameters) -> tuple[Parameters, int]:
        """Return the parameters with the best codes, and the bits for the values with them."""
        differences = self._differences(parameters, values) if values else ()
        if not any(differences):
            return parameters, 1
        k, dense_bits = _best_k(_folded(differences))
        runs, others = _runs(differences)
        runs_k, runs_bits = _best_k(runs)
        others_k, others_bits = _best_k(others)
        if (sparse_bits := COUNT_K + 1 + runs_bits + others_bits) < dense_bits:
            return replace(parameters, k=others_k, runs_k=runs_k), sparse_bits
        return replace(parameters, k=k), dense_bits

    def _size(self, parameters: Parameters, values: Sequence[int], gate: Sequence[bool]) -> int:
        if parameters.gated:
            values = list(compress(values, gate))
        return _coded_bits(self._differences(parameters, values), parameters) if values else 0

    def _differences(self, parameters: Parameters, values: Sequence[int]) -> list[int]:
        column = self._column
        trial = Column(column.latest, column.step, column.average, column.parameters)
        trial.change(parameters)
        return trial._differences(values)

    def _can_be_gated(self, values: Sequence[int], gate: Sequence[bool]) -> bool:
        """Return whether the values change only where the gate does."""
        previous_values = (self._column.latest, *values)
        return any(gate) and all(
            changes or value == previous
            for value, previous, changes in zip(values, previous_values, gate, strict=False)
        )

    def _unit(self, values: Sequence[int]) -> int:
        """Return the unit for the values: that in force if it fits, or a larger one after enough different values."""
        in_force = self._column.parameters.unit
        divisor = gcd(*values)
        self._common_divisor = gcd(self._common_divisor, divisor)
        if len(self._seen) < VALUES_FOR_UNIT:
            self._seen.update(values)
        if divisor % in_force == 0 and len(self._seen) < VALUES_FOR_UNIT:
            return in_force
        return next((unit for unit in UNITS if self._common_divisor % unit == 0), 1)


def _encoded(differences: Sequence[int], parameters: Parameters) -> str:
    if not any(differences):
        return "0"
    if parameters.runs_k < 0:
        return "1" + _codes(_folded(differences), parameters.k)
    runs, others = _runs(differences)
    return f"1{_codes([len(runs)], COUNT_K)}{_codes(runs, parameters.runs_k)}{_codes(others, parameters.k)}"


def _coded_bits(differences: Sequence[int], parameters: Parameters) -> int:
    """Return the length of `_encoded`, without producing it: a wrong parameter could make it long."""
    if not any(differences):
        return 1
    if parameters.runs_k < 0:
        return 1 + _bits_of(_folded(differences), parameters.k)
    runs, others = _runs(differences)
    return (
        1
        + _bits_of([len(runs)], COUNT_K)
        + _bits_of(runs, parameters.runs_k)
        + _bits_of(others, parameters.k)
    )


def _runs(differences: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the lengths of the runs of 0 before nonzero differences, and these differences, folded and less 1."""
    runs, run, others = [], 0, []
    for difference in differences:
        if difference:
            runs.append(run)
            others.append(difference)
            run = 0
        else:
            run += 1
    return runs, [number - 1 for number in _folded(others)]


def _codes(numbers: Sequence[int], k: int) -> str:
    """Return natural numbers as bits: first the unary parts, then the low parts of `k` bits each."""
    high = "".join(["0" * (number >> k) + "1" for number in numbers])
    if not k:
        return high
    full = 1 << k
    return high + "".join([bin(full | number & full - 1)[3:] for number in numbers])


def _bits_of(numbers: Sequence[int], k: int) -> int:
    return sum([number >> k for number in numbers]) + len(numbers) * (k + 1)


def _best_k(numbers: Sequence[int]) -> tuple[int, int]:
    """Return the best Rice parameter for the numbers, and the bits that they take with it."""
    if not numbers:
        return 0, 0
    near = max(sum(numbers) // len(numbers), 1).bit_length() - 1
    return min(
        ((k, _bits_of(numbers, k)) for k in range(max(0, near - 1), min(K_MAX, near + 1) + 1)),
        key=itemgetter(1),
    )


def _folded(differences: Iterable[int]) -> list[int]:
    """Return integers as natural numbers: 0, -1, 1, -2, … as 0, 1, 2, 3, …"""
    return [difference << 1 if difference >= 0 else ~(difference << 1) for difference in differences]


def _unfolded(numbers: Iterable[int]) -> list[int]:
    return [number >> 1 ^ -(number & 1) for number in numbers]
