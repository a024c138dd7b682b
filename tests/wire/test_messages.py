"""Messages at each limit, and one beyond it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.messages import (
    COMMAND_BODY_BYTES_MAX,
    COMMANDS_PER_REPLY_MAX,
    ENTRY_BYTES_MAX,
    INT_MAX,
    READINGS_PER_REPORT_MAX,
    RECORDS_PER_BATCH_MAX,
    REPLY_BYTES_MAX,
    REPORTS_PER_POST_MAX,
    Alert,
    Audit,
    Batch,
    BatchRefusal,
    BatchReply,
    Calibration,
    Command,
    CommandResult,
    Entry,
    Gap,
    Inventory,
    Message,
    MessageError,
    Quality,
    Reports,
    Status,
    UpdateStep,
    decode,
    encode,
    encode_batch,
    find_undecodable_record,
    sequences,
)

NOW = 1_790_000_000_000
EVERY_KIND = (
    Status(1, NOW, "running", 12, {"bath-temp-mc": 37_012, "waste-pct": 4}),
    Inventory(2, NOW, {"glu": 120}),
    Quality(3, NOW, "glu", 2, -1200),
    Calibration(4, NOW, "glu", 1_000_200, -40, True),
    Alert(5, NOW, "T0101", "bath", "warning", 37_900),
    Alert(6, NOW, "T0101", "bath", "critical"),
    CommandResult(7, NOW, 3, "done"),
)
OF_THE_BOX = (
    Gap(NOW, "disk-full", 128, ((1, 64), (70, 133))),
    Audit(NOW, "port-down", 2, -1),
    UpdateStep(NOW, 12, 7, "refused", "no-room"),
)


@pytest.mark.parametrize("body", [*EVERY_KIND, *OF_THE_BOX], ids=lambda body: type(body).__name__)
def test_every_message_kind_round_trips(body: object) -> None:
    entry = Entry("CHEM-0001", 7, body)  # type: ignore[arg-type]
    assert decode(Entry, encode(entry)) == entry
    assert encode(decode(Entry, encode(entry))) == encode(entry)


@pytest.mark.parametrize("body", [*EVERY_KIND, *OF_THE_BOX], ids=lambda body: type(body).__name__)
def test_no_message_kind_accepts_an_additional_element(body: object) -> None:
    elements = [*msgspec.msgpack.decode(encode(body)), 0]  # type: ignore[arg-type]
    with pytest.raises(MessageError):
        decode(Entry, msgspec.msgpack.encode(["CHEM-0001", 7, elements]))


@pytest.mark.parametrize(
    ("index", "wrong"),
    [
        (0, "gossip"),
        (1, 0),
        (1, INT_MAX + 1),
        (1, 1.5),
        (1, "1"),
        (2, -1),
        (3, "tired"),
        (4, -1),
        (5, {"Patient": 1}),
        (5, {"patient name": 1}),
        (5, {"bath-temp-mc": "37"}),
        (5, {"bath-temp-mc": INT_MAX + 1}),
        (5, []),
    ],
)
def test_a_status_with_one_invalid_element_is_refused(index: int, wrong: object) -> None:
    elements = ["status", 1, NOW, "running", 12, {"bath-temp-mc": 37_012}]
    decode(Entry, msgspec.msgpack.encode(["CHEM-0001", 7, elements]))
    elements[index] = wrong
    with pytest.raises(MessageError):
        decode(Entry, msgspec.msgpack.encode(["CHEM-0001", 7, elements]))


@pytest.mark.parametrize("instrument", ["chem-0001", "CHEM 0001", "-CHEM", "CHEM-0001\n", "C" * 25, "CHÉM"])
def test_only_a_valid_serial_is_accepted(instrument: str) -> None:
    with pytest.raises(MessageError):
        decode(Entry, encode(Entry(instrument, 7, EVERY_KIND[0])))


def test_a_report_with_the_most_readings_fits_an_entry() -> None:
    channels = [f"{'c' * 46}{number:02}" for number in range(READINGS_PER_REPORT_MAX)]
    assert len(channels[0]) == 48
    fullest = Status(INT_MAX, INT_MAX, "calibrating", INT_MAX, dict.fromkeys(channels, -INT_MAX))
    assert len(encode(Entry("C" * 24, 2**32 - 1, fullest))) <= ENTRY_BYTES_MAX


def test_a_gap_with_the_most_ranges_fits_an_entry() -> None:
    ranges = tuple((INT_MAX - 1, INT_MAX) for _ in range(64))
    assert len(encode(Entry("", 0, Gap(INT_MAX, "disk-full", INT_MAX, ranges)))) <= ENTRY_BYTES_MAX


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda n: Reports(7, [EVERY_KIND[0]] * n), REPORTS_PER_POST_MAX),
        (
            lambda n: decode(
                Batch, encode_batch(1, [(i + 1, encode(Entry("A", 1, EVERY_KIND[0]))) for i in range(n)])
            ),
            RECORDS_PER_BATCH_MAX,
        ),
        (lambda n: BatchReply(0, [Command(1, "", "help-file")] * n), COMMANDS_PER_REPLY_MAX),
        (lambda n: Command(1, "", "help-file", bytes(n)), COMMAND_BODY_BYTES_MAX),
        (lambda n: Gap(NOW, "corrupt", 1, ((1, 1),) * n), 64),
    ],
    ids=["reports", "batch", "commands", "command", "gap"],
)
def test_a_message_at_the_size_limit_is_accepted_and_a_longer_one_is_not(
    make: Callable[[int], Message], limit: int
) -> None:
    def round_trip(size: int) -> Message:
        message = make(size)
        return decode(type(message), encode(message))

    assert round_trip(limit) == make(limit)
    with pytest.raises(MessageError):
        round_trip(limit + 1)


def test_the_largest_reply_is_within_its_limit() -> None:
    command = Command(INT_MAX, "C" * 24, "assay-configuration", bytes(COMMAND_BODY_BYTES_MAX))
    assert len(encode(BatchReply(INT_MAX, [command] * COMMANDS_PER_REPLY_MAX))) <= REPLY_BYTES_MAX


def test_a_reply_mentions_session_messages_only_if_some_are_waiting() -> None:
    assert encode(BatchReply(7)) == msgspec.msgpack.encode((7, [], [])), "as earlier versions expect it"
    assert decode(BatchReply, encode(BatchReply(7))) == BatchReply(7)
    assert decode(BatchReply, encode(BatchReply(7, sessions=True))) == BatchReply(7, sessions=True)


def test_a_reply_mentions_an_update_order_only_if_it_changed() -> None:
    assert encode(BatchReply(7, sessions=True)) == msgspec.msgpack.encode((7, [], [], True))
    for reply in (BatchReply(7, updates=True), BatchReply(7, sessions=True, updates=True)):
        assert decode(BatchReply, encode(reply)) == reply


@pytest.mark.parametrize(
    ("index", "wrong"),
    [(1, -1), (2, 0), (3, -1), (4, "installed"), (5, "No Room"), (5, "n" * 49), (5, "full\n"), (5, None)],
)
def test_a_step_of_an_update_with_one_invalid_element_is_refused(index: int, wrong: object) -> None:
    elements = ["update", NOW, 12, 7, "failed", "no-room"]
    decode(Entry, msgspec.msgpack.encode(["", 0, elements]))
    elements[index] = wrong
    with pytest.raises(MessageError):
        decode(Entry, msgspec.msgpack.encode(["", 0, elements]))


@pytest.mark.parametrize("kind", [Reports, Batch])
def test_an_empty_message_is_refused(kind: type[Message]) -> None:
    with pytest.raises(MessageError):
        decode(kind, msgspec.msgpack.encode([1, 0, []][-len(kind.__struct_fields__) :]))


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=20),
    st.integers(0, INT_MAX - 100_000),
    st.integers(0, 2**32 - 1),
)
def test_a_batch_keeps_its_sequence_numbers(steps: list[int], after: int, epoch: int) -> None:
    numbers = [after + sum(steps[: i + 1]) for i in range(len(steps))]
    entries = [Entry("CHEM-0001", 1, Alert(i + 1, NOW, "T0101", "bath", "info")) for i in range(len(steps))]
    encoded = encode_batch(epoch, list(zip(numbers, map(encode, entries), strict=True)))
    batch = decode(Batch, encoded)
    assert (batch.epoch, sequences(batch)) == (epoch, numbers)
    assert [record.entry for record in batch.records] == entries
    again = [encode(record.entry) for record in batch.records]
    assert encode_batch(epoch, list(zip(numbers, again, strict=True))) == encoded


def test_an_invalid_batch_names_its_first_invalid_record() -> None:
    good = encode(Entry("CHEM-0001", 1, EVERY_KIND[0]))
    of_a_later_version = msgspec.msgpack.encode(["CHEM-0001", 1, ["humidity", 1, NOW]])
    entries = [(5, good), (8, of_a_later_version), (9, good), (10, b"\xc0")]
    assert find_undecodable_record(encode_batch(3, entries)) == BatchRefusal(3, 8)
    assert find_undecodable_record(encode_batch(3, entries[2:])) == BatchRefusal(3, 10)
    assert find_undecodable_record(encode_batch(3, entries[:1])) is None, "no record is at fault"


@given(st.binary(max_size=200), st.booleans())
def test_a_body_that_is_not_a_batch_names_no_record(data: bytes, cut: bool) -> None:
    batch = encode_batch(3, [(5, b"\xc0")])
    assert find_undecodable_record(batch[: len(data) % len(batch)] if cut else batch + data + b"\0") is None


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_a_message_error(data: bytes) -> None:
    for kind in (Batch, BatchReply, Reports, Entry):
        try:
            decode(kind, data)
        except MessageError:
            continue
