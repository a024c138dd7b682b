"""Any batch is the same after packing in columns and unpacking, and invalid bytes are refused."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.instruments.history import History
from sim.units import DAY_NS
from wire.columns import COLUMNS, GROUPS_MAX, NAME_CHARACTERS_MAX, VERBATIM, ColumnsError, Packer, Unpacker
from wire.messages import (
    INT_MAX,
    RECORDS_PER_BATCH_MAX,
    Alert,
    Audit,
    Entry,
    InstrumentReport,
    Status,
    encode,
    encode_batch,
)
from wire.rice import AVERAGES, LATEST, LINEAR, BitReader, Column, Parameters, bits_to_bytes

CHANNELS = ("tests-n", "vacuum-pa", "bath-temp-mc", "waste-pct")


def batches(*reports: Sequence[InstrumentReport], serial: str = "X-1") -> list[bytes]:
    encoded, sequence = [], 1
    for group in reports:
        entries = [encode(Entry(serial, 1, report)) for report in group]
        encoded.append(encode_batch(3, list(enumerate(entries, sequence))))
        sequence += len(group)
    return encoded


def pack_checked(data: list[bytes]) -> list[bytes]:
    """Return the packed batches of a stream, after checking that unpacking yields the same batches."""
    packer, unpacker = Packer(), Unpacker()
    packed = [packer.pack(batch) for batch in data]
    assert [unpacker.unpack(batch) for batch in packed] == data
    return packed


def status(number: int, **readings: int) -> Status:
    names = {name.replace("_", "-"): value for name, value in readings.items()}
    return Status(number, 1_790_000_000_000 + number * 60_000, "running", number // 2, names)


@pytest.mark.parametrize("model", ["chemistry-analyzer", "hematology-analyzer", "immunoassay-analyzer"])
def test_an_instruments_packed_reports_have_less_than_a_tenth_of_the_bytes(model: str) -> None:
    reports = list(History(model, "X-1", 4).until(DAY_NS))
    data = batches(*(reports[first : first + 64] for first in range(0, len(reports), 64)))
    packed = pack_checked(data)
    assert all(batch.startswith(COLUMNS) for batch in packed)
    assert sum(map(len, packed)) < sum(map(len, data)) / 10


values = st.integers(-INT_MAX, INT_MAX) | st.integers(-20, 20) | st.integers(0, 50).map(lambda n: n * 100)
statuses = st.builds(
    Status,
    st.integers(1, INT_MAX),
    st.integers(0, INT_MAX),
    st.sampled_from(["idle", "running", "stopped"]),
    st.integers(0, INT_MAX) | st.integers(0, 3),
    st.dictionaries(st.sampled_from(CHANNELS), values, max_size=4),
)
others = st.just(Alert(5, 7, "T0100", "bath", "error", -3))


@settings(max_examples=150)
@given(st.lists(st.lists(statuses | others, min_size=1, max_size=12), min_size=1, max_size=6))
def test_any_reports_are_the_same_after_unpacking(reports: list[list[InstrumentReport]]) -> None:
    pack_checked(batches(*reports))


@settings(max_examples=150)
@given(
    st.lists(st.lists(st.integers(-INT_MAX, INT_MAX), min_size=1, max_size=20), min_size=1, max_size=5),
    st.sampled_from([LATEST, LINEAR, *AVERAGES]),
    st.integers(0, 54),
    st.integers(-1, 54),
)
def test_a_column_is_the_same_after_decoding_with_any_parameters(
    batches_of_values: list[list[int]], prediction: int, k: int, runs_k: int
) -> None:
    parameters = Parameters(prediction, max(k, 40), runs_k)
    sender, receiver = Column(0), Column(0)
    for column in (sender, receiver):
        column.change(parameters)
    for batch in batches_of_values:
        bits = BitReader(bits_to_bytes(sender.encode(batch)))
        assert receiver.decode(bits, len(batch)) == batch


def test_a_reading_that_is_not_a_multiple_of_the_previous_resolution_is_unpacked() -> None:
    coarse = [status(n, vacuum_pa=80_000 + n % 7 * 10) for n in range(1, 65)]
    fine = [status(n, vacuum_pa=80_000 + n % 7 * 10 + n % 3) for n in range(65, 129)]
    packed = pack_checked(batches(coarse, fine, fine))
    assert len(packed) == 3


def test_a_count_that_begins_to_change_without_samples_is_unpacked() -> None:
    gated = [
        Status(n, n * 60_000, "running", n // 4, {"tests-n": n // 4 * 7, "vacuum-pa": 1})
        for n in range(1, 400)
    ]
    broken = [Status(n, n * 60_000, "running", 99, {"tests-n": n, "vacuum-pa": 1}) for n in range(400, 464)]
    pack_checked(batches(gated[:200], gated[200:], broken, broken))


def test_channels_in_another_order_and_instruments_beyond_the_limit_are_unpacked() -> None:
    packer, unpacker = Packer(), Unpacker()
    for number in range(GROUPS_MAX + 20):
        for names in (("a", "b"), ("b", "a")):
            (data,) = batches([Status(1, 5, "idle", 0, dict.fromkeys(names, number))], serial=f"X-{number}")
            assert unpacker.unpack(packer.pack(data)) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"first" * 10,
        encode_batch(1, [(1, encode(Entry("", 0, Audit(5, "far-end-lost", 1))))]),
        msgspec.msgpack.encode(["not", "a", "batch"]),
        msgspec.msgpack.encode([1, 2, [[1, ["X-1", 1, ["status", 1, 2, "idle", 3, {"a": 1.5}]]]]]),
        msgspec.msgpack.encode([1, 2, [[1, ["X-1", 1, ["status", 1, 2, "idle", True, {"a": 1}]]]]]),
        msgspec.msgpack.encode([1, 2, [["x", ["X-1", 1, ["status", 1, 2, "idle", 3, {"a": 1}]]]]]),
        msgspec.msgpack.encode([1, 2, [[1, ["X-1", 1, ["status", 1, 2, "idle", 3, {"a": 1}]]]]])[:-1]
        + b"\xcc\x01",
    ],
)
def test_bytes_that_are_not_a_batch_of_statuses_are_kept_verbatim(data: bytes) -> None:
    assert Packer().pack(data) == VERBATIM + data
    assert Unpacker().unpack(VERBATIM + data) == data


def test_long_names_are_kept_verbatim_and_refused_in_columns() -> None:
    """Each status of a group repeats its names: a short packed batch could become a very long batch."""
    (usual,) = batches([status(1, vacuum_pa=8)], serial="X" * NAME_CHARACTERS_MAX)
    packed = Packer().pack(usual)
    assert packed.startswith(COLUMNS)
    for long in (
        batches([status(1, vacuum_pa=8)], serial="X" * (NAME_CHARACTERS_MAX + 1)),
        batches([status(1, **{"v" * (NAME_CHARACTERS_MAX + 1): 8})]),
    ):
        assert pack_checked(long)[0].startswith(VERBATIM)
    content = msgspec.msgpack.decode(packed[1:])
    (group,) = content[6]
    for field, value in ((0, "X" * 100_000), (2, ["v" * 100_000])):
        content[6] = [[*group[:field], value, *group[field + 1 :]]]
        with pytest.raises(ColumnsError, match="length <= 48"):
            Unpacker().unpack(COLUMNS + msgspec.msgpack.encode(content))


def test_a_batch_with_more_records_than_allowed_is_kept_verbatim() -> None:
    (data,) = batches([status(n, a=1) for n in range(1, RECORDS_PER_BATCH_MAX + 2)])
    assert Packer().pack(data) == VERBATIM + data


def test_a_truncated_packed_batch_is_refused_and_an_altered_one_yields_bounded_data() -> None:
    data = batches([status(n, vacuum_pa=n * n % 97, waste_pct=n) for n in range(1, 65)])
    (packed,) = pack_checked(data)
    for length in range(1, len(packed)):
        with pytest.raises(ColumnsError):
            Unpacker().unpack(packed[:length])
    random = Random(1)
    for _ in range(3_000):
        altered = bytearray(packed)
        altered[random.randrange(1, len(packed))] = random.randrange(256)
        try:
            result = Unpacker().unpack(bytes(altered))
        except ColumnsError:
            continue
        assert len(result) < 64 * 2_000


def test_a_batch_of_another_stream_is_refused() -> None:
    data = batches([status(1, a=1)], [status(2, a=1)])
    _, second = pack_checked(data)
    with pytest.raises(ColumnsError, match="refers to data that it does not contain"):
        Unpacker().unpack(second)


def test_noise_takes_little_more_than_its_entropy() -> None:
    random = Random(3)
    readings = [round(random.gauss(8_000, 4)) * 10 for _ in range(6_400)]
    reports = [
        [Status(n, n, "idle", 0, {"vacuum-pa": readings[n]}) for n in range(first, first + 64)]
        for first in range(1, 6_300, 64)
    ]
    packed = pack_checked(batches(*reports))
    bits = sum(len(msgspec.msgpack.decode(batch[1:])[-1]) for batch in packed[5:]) * 8
    entropy = 4.05  # in bits, of a normal distribution whose standard deviation is 4 steps: 2.05 + log2(4)
    assert bits / (64 * len(packed[5:])) < 1.12 * entropy
    assert all(after[1:] != before[1:] for before, after in pairwise(packed))
