"""Each target receives each notice once, in groups, and a failed attempt is repeated later."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from datacenter.notices.outbox import GIVE_UP_MS, GROUP_MAX, LEASE_MS, AttemptOutcome, AttemptResult, retry_ms
from datacenter.notices.sender import NoticeSender
from datacenter.notices.targets import NoticeTarget
from datacenter.store.store import Store
from tests.support.datacenter.notices import (
    CHAT,
    TICKETS,
    Receiver,
    SetClock,
    raise_alert,
    resolve_alert,
    states,
)

FAILED, REFUSED = AttemptOutcome(AttemptResult.FAILED, "down"), AttemptOutcome(AttemptResult.REFUSED, "400")
UNCERTAIN = AttemptOutcome(AttemptResult.UNCERTAIN, "late")


def send(
    store: Store, receiver: Receiver, *targets: NoticeTarget, clock: SetClock | None = None, times: int = 1
) -> int:
    """Let a sender send due notices `times` times; return the number of messages."""
    with ThreadPoolExecutor(1) as executor:
        sender = NoticeSender(
            store, targets or (CHAT,), receiver, "one", clock or SetClock(), executor, "https://dc"
        )
        return sum(asyncio.run(sender.send_due()) for _ in range(times))


def test_each_target_receives_each_notice_once(store: Store) -> None:
    receiver = Receiver()
    raise_alert(store, "a")
    assert send(store, receiver, CHAT, TICKETS, times=3) == 2
    resolve_alert(store, "a")
    assert send(store, receiver, CHAT, TICKETS, times=3) == 2
    assert sorted(receiver.received) == [
        ("chat", "a:raised"),
        ("chat", "a:resolved"),
        ("tickets", "a:raised"),
        ("tickets", "a:resolved"),
    ]
    assert set(states(store).values()) == {"sent"}


def test_the_end_is_sent_after_the_beginning(store: Store) -> None:
    raise_alert(store, "a")
    resolve_alert(store, "a")
    receiver = Receiver(FAILED)
    clock = SetClock()
    send(store, receiver, clock=clock, times=3)
    assert receiver.received == []
    clock.now_ms += retry_ms(1)
    send(store, receiver, clock=clock, times=2)
    assert receiver.messages == [("chat", ["a:raised"]), ("chat", ["a:resolved"])]


def test_the_end_of_an_alert_whose_beginning_was_refused_is_not_sent(store: Store) -> None:
    raise_alert(store, "a")
    resolve_alert(store, "a")
    receiver = Receiver(REFUSED)
    assert send(store, receiver, times=3) == 1
    assert (receiver.received, states(store)) == (
        [],
        {("chat", "a:raised"): "failed", ("chat", "a:resolved"): "needless"},
    )


def test_filters_select_alerts(store: Store) -> None:
    raise_alert(store, "a", severity="warning")
    raise_alert(store, "b", severity="critical")
    receiver = Receiver()
    send(store, receiver, msgspec.structs.replace(CHAT, severities=["critical"]))
    assert receiver.received == [("chat", "b:raised")]


@pytest.mark.parametrize("count", [GROUP_MAX, GROUP_MAX + 1])
def test_waiting_notices_are_grouped_in_one_message(store: Store, count: int) -> None:
    for number in range(count):
        raise_alert(store, f"{number:03}")
    receiver = Receiver()
    send(store, receiver, times=3)
    assert [len(keys) for _, keys in receiver.messages] == [GROUP_MAX, 1][: 1 + (count > GROUP_MAX)]


def test_messages_to_a_target_have_a_minimum_interval(store: Store) -> None:
    clock, receiver = SetClock(), Receiver()
    target = msgspec.structs.replace(CHAT, interval_s=60)
    for alert, after_ms in (("a", 0), ("b", 0), ("c", 59_999), ("d", 1)):
        clock.now_ms += after_ms
        raise_alert(store, alert)
        send(store, receiver, target, clock=clock)
    assert [keys for _, keys in receiver.messages] == [["a:raised"], ["b:raised", "c:raised", "d:raised"]]


def test_a_failed_attempt_is_repeated_with_growing_intervals(store: Store) -> None:
    raise_alert(store, "a")
    clock, receiver = SetClock(), Receiver(FAILED, FAILED, FAILED)
    assert send(store, receiver, clock=clock) == 1
    for failures in (1, 2, 3):
        clock.now_ms += retry_ms(failures) - 1
        assert send(store, receiver, clock=clock) == 0
        clock.now_ms += 1
        assert send(store, receiver, clock=clock) == 1
    assert receiver.received == [("chat", "a:raised")]
    assert [retry_ms(one) for one in (1, 2, 3, 30)] == [30_000, 60_000, 120_000, 3_600_000]


def test_a_notice_is_given_up_after_a_day(store: Store) -> None:
    raise_alert(store, "a")
    clock, receiver = SetClock(), Receiver(*[FAILED] * 100)
    begin_ms = clock.now_ms
    while states(store).get(("chat", "a:raised")) != "failed":
        send(store, receiver, clock=clock)
        clock.now_ms += 3_600_000
    assert clock.now_ms - begin_ms == GIVE_UP_MS + 3_600_000


def test_a_refused_notice_does_not_hold_up_the_others(store: Store) -> None:
    for alert in "abc":
        raise_alert(store, alert)
    receiver = Receiver(REFUSED, REFUSED)
    send(store, receiver, times=5)
    assert receiver.messages == [("chat", ["b:raised"]), ("chat", ["c:raised"])]
    assert states(store)["chat", "a:raised"] == "failed"


def test_an_attempt_without_an_answer_is_repeated_only_if_the_target_recognizes_repetitions(
    store: Store,
) -> None:
    raise_alert(store, "a")
    clock = SetClock()
    receiver = Receiver(UNCERTAIN, UNCERTAIN)
    send(store, receiver, CHAT, TICKETS, clock=clock)
    clock.now_ms += retry_ms(1)
    send(store, receiver, CHAT, TICKETS, clock=clock)
    assert receiver.received == [("tickets", "a:raised")]
    assert states(store) == {("chat", "a:raised"): "uncertain", ("tickets", "a:raised"): "sent"}


def test_an_error_in_a_transport_is_no_reason_to_repeat(store: Store) -> None:
    class Broken(Receiver):
        async def send(self, *_: object) -> AttemptOutcome:
            raise ValueError("a bug")

    raise_alert(store, "a")
    send(store, Broken())
    assert states(store) == {("chat", "a:raised"): "uncertain"}


def test_a_process_that_was_suspended_beyond_its_lease_records_nothing(store: Store) -> None:
    raise_alert(store, "a")
    clock = SetClock()

    class Suspended(Receiver):
        async def send(self, *_: object) -> AttemptOutcome:
            clock.now_ms += LEASE_MS
            with ThreadPoolExecutor(1) as executor:
                other = NoticeSender(store, [CHAT], Receiver(), "two", clock, executor)
                await other.send_due()
            return AttemptOutcome(AttemptResult.SENT)

    send(store, Suspended(), clock=clock)
    assert states(store) == {("chat", "a:raised"): "uncertain"}


@pytest.mark.parametrize("kind", ["file", "postgresql"])
def test_several_senders_send_each_notice_once(kind: str, request: pytest.FixtureRequest) -> None:
    url = (
        str(request.getfixturevalue("empty_postgres"))
        if kind == "postgresql"
        else f"sqlite:///{request.getfixturevalue('tmp_path') / 'store.db'}"
    )
    stores = [Store(url) for _ in range(4)]
    stores[0].authorize(["RAP-0001"], 0)
    receiver, clock = Receiver(), SetClock()

    async def run() -> None:
        with ThreadPoolExecutor(4) as executor:
            senders = [
                NoticeSender(store, [CHAT, TICKETS], receiver, f"{number}", clock, executor)
                for number, store in enumerate(stores)
            ]
            for number in range(10):
                raise_alert(stores[0], f"{number}")
                await asyncio.gather(*(sender.send_due() for sender in senders))
            for _ in range(3):
                await asyncio.gather(*(sender.send_due() for sender in senders))

    asyncio.run(run())
    expected = [(target, f"{number}:raised") for target in ("chat", "tickets") for number in range(10)]
    assert sorted(receiver.received) == sorted(expected)
    for store in stores:
        store.close()
