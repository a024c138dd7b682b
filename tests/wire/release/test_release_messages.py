"""Update orders, update states and the paths of metadata files, at each limit and beyond it."""

from __future__ import annotations

import pytest

from wire.files import FILE_BYTES_MAX, RANGE_BYTES_MAX, RangeRequest, parse_range
from wire.messages import INT_MAX, MessageError, decode, encode
from wire.release.messages import (
    METADATA_BYTES_MAX,
    NO_ORDER,
    RESTART_TIMES_MAX,
    TARGET_BYTES_MAX,
    MetadataRange,
    MetadataVersions,
    UpdateOrder,
    UpdateState,
    parse_metadata_range,
)

SHA256 = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "message",
    [
        UpdateState(0),
        UpdateState(INT_MAX, SHA256, "", 7, 3),
        NO_ORDER,
        UpdateOrder(
            INT_MAX, 12, "data", MetadataVersions(1, 400, 12, 12), 60, ((1, 2),) * RESTART_TIMES_MAX, True
        ),
    ],
)
def test_messages_round_trip(message: UpdateState | UpdateOrder) -> None:
    assert decode(type(message), encode(message)) == message


@pytest.mark.parametrize(
    "wrong",
    [
        UpdateState(-1),
        UpdateState(1, "abc"),
        UpdateState(1, SHA256.upper()),
        UpdateState(1, SHA256 + "\n"),
        UpdateOrder(1, 2, "firmware"),  # type: ignore[arg-type]
        UpdateOrder(1, restart_times=((1, 2),) * (RESTART_TIMES_MAX + 1)),
        UpdateOrder(1, restart_times=((-1, 2),)),
        UpdateOrder(1, metadata=MetadataVersions(-1)),
    ],
)
def test_messages_beyond_a_limit_are_refused(wrong: UpdateState | UpdateOrder) -> None:
    with pytest.raises(MessageError):
        decode(type(wrong), encode(wrong))


@pytest.mark.parametrize(
    "file", ["1.root.json", "120.root.json", "timestamp.json", "snapshot.json", "targets.json"]
)
def test_the_path_of_a_metadata_file_is_parsed(file: str) -> None:
    wanted = MetadataRange(file, METADATA_BYTES_MAX, RANGE_BYTES_MAX)
    assert parse_metadata_range(wanted.target) == wanted


@pytest.mark.parametrize(
    "target",
    [
        "/v1/releases/timestamp.json",
        "/v1/releases/root.json/0/1",
        "/v1/releases/0.root.json/0/1",
        "/v1/releases/../timestamp.json/0/1",
        "/v1/releases/1.root.json%2f/0/1",
        "/v1/releases/timestamp.json/0/0",
        f"/v1/releases/timestamp.json/0/{RANGE_BYTES_MAX + 1}",
        f"/v1/releases/timestamp.json/{METADATA_BYTES_MAX + 1}/1",
        "/v1/releases/timestamp.json/-1/1",
        "/v1/releases/keys.json/0/1",
    ],
)
def test_any_other_path_is_refused(target: str) -> None:
    assert parse_metadata_range(target) is None


def test_ranges_of_targets_reach_further_than_those_of_other_files() -> None:
    last = RangeRequest(SHA256, TARGET_BYTES_MAX, RANGE_BYTES_MAX)
    assert parse_range(last.target, TARGET_BYTES_MAX) == last
    assert parse_range(last._replace(offset=TARGET_BYTES_MAX + 1).target, TARGET_BYTES_MAX) is None
    assert parse_range(last.target) is None
    assert parse_range(last._replace(offset=FILE_BYTES_MAX).target)
