"""A chunk returns exactly the encoded statuses, and is small for simulated instruments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenter.history.chunk import ChunkError, decode_chunk, encode_chunk
from datacenter.history.statuses import Statuses, joined
from sim.instruments.history import History
from sim.units import DAY_NS
from wire.messages import INT_MAX, STATES, Status

VALUES = st.one_of(st.integers(-3, 3), st.integers(-INT_MAX, INT_MAX), st.sampled_from([INT_MAX, -INT_MAX]))
COUNTS = st.one_of(st.integers(0, 3), st.integers(0, INT_MAX))
STATUS = st.builds(
    Status,
    st.integers(1, INT_MAX),
    COUNTS,
    st.sampled_from(STATES),
    COUNTS,
    st.dictionaries(st.sampled_from(["lamp-h", "vacuum-pa", "waste-pct"]), VALUES),
)
REPORTS = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), STATUS),
    min_size=1,
    max_size=40,
    unique_by=lambda pair: (pair[0], pair[1].number),
)


@given(REPORTS)
def test_a_chunk_returns_any_statuses(reports: list[tuple[int, Status]]) -> None:
    ordered = sorted(reports, key=lambda pair: (pair[0], pair[1].number))
    chunk = encode_chunk(Statuses.of(reports))
    assert list(decode_chunk(chunk).reports()) == ordered
    assert list(decode_chunk(chunk, with_numpy=True).reports()) == ordered


@given(REPORTS, st.integers(0, 40), st.integers(0, 40))
def test_parts_that_overlap_are_joined_without_repetition(
    reports: list[tuple[int, Status]], end: int, start: int
) -> None:
    ordered = sorted(reports, key=lambda pair: (pair[0], pair[1].number))
    parts = [Statuses.of(part) for part in (ordered[:end], ordered[start:], ordered[end:])]
    assert list(joined(parts).reports()) == ordered


@pytest.mark.parametrize(("model", "bytes_max"), [("chemistry-analyzer", 3.3), ("blood-gas-analyzer", 1.2)])
def test_a_day_of_an_instrument_takes_little_more_than_the_noise_of_its_sensors(
    model: str, bytes_max: float
) -> None:
    day = [(1, report) for report in History(model, "X-1", 5).until(DAY_NS) if isinstance(report, Status)]
    chunk = encode_chunk(Statuses.of(day))
    assert list(decode_chunk(chunk).reports()) == day
    assert list(decode_chunk(chunk, with_numpy=True).reports()) == day
    assert len(chunk) < bytes_max * len(day)


@pytest.mark.parametrize("end", [0, 1, 5, -1])
def test_a_truncated_chunk_is_an_error(end: int) -> None:
    chunk = encode_chunk(
        Statuses.of([(1, Status(n, n, "idle", n * n, {"lamp-h": n**3})) for n in range(1, 99)])
    )
    with pytest.raises(ChunkError):
        decode_chunk(chunk[:end])
