"""Every lab is checked for delivery, content and gaps; an expectation with nothing to check fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import agents.box.intake.intake
from agents.box.uplink.forwarder import Forwarder
from sim.faults import fault_kinds
from sim.lab.labfile import Lab, ScheduledFault, parse_lab
from sim.pytest_plugin import SMALL_LAB
from sim.units import HOUR_NS, MINUTE_NS
from sim.verdict.causes import Causes, outage_ends
from sim.verdict.checks import evaluate
from sim.verdict.ledger import ReportLedger
from sim.verdict.outcome import LabOutcome
from sim.verdict.result import GapFound, Result
from sim.worlds import run_lab
from tests.support.sim.verdict import limits
from wire.messages import Entry, Message, Status, encode

S = 10**9
DOWN = fault_kinds()["link-down"]()
SLOW = fault_kinds()["link-rate"](rate=9600)


def lab(duration: str, rest: str = "") -> Lab:
    return parse_lab(SMALL_LAB.replace('"30d"', f'"{duration}"') + rest, Path("small.toml"))


def failed(result: Result) -> set[str]:
    return {expectation.name for expectation in result.expectations if not expectation.holds}


def evaluated(
    book: ReportLedger, *events: ScheduledFault, end_ns: int = 2 * HOUR_NS, **expect: int
) -> dict[str, bool]:
    sequences = sorted(entry.sequence for entry in book if entry.sequence > 0)
    outcome = LabOutcome(book, sequences, [], sum(run.copies for run in book.runs.values()))
    found, _ = evaluate(limits(**expect), outcome, events, end_ns=end_ns, ports={"CHEM-0001": 1})
    return {expectation.name: expectation.holds for expectation in found}


def two_reports(
    made_s: int, acknowledged_s: int | None, stored_s: int | None, *, waits: bool = False
) -> ReportLedger:
    """Return the ledger of a report with these times, and of another one that is stored at once."""
    book = ReportLedger()
    run = book.begin("CHEM-0001", 1)
    for number, times in enumerate(((made_s, acknowledged_s, stored_s), (made_s, made_s, made_s)), 1):
        run.made("status", times[0] * S)
        if times[1] is not None:
            run.acknowledged(number, times[1] * S)
        if times[2] is not None:
            run.found(number, number, times[2] * S)
    if waits:
        run.found(1, 1)
    return book


def test_a_report_that_waits_without_a_cause_is_undelivered() -> None:
    assert not evaluated(two_reports(100, 100, None, waits=True))["undelivered"]
    assert not evaluated(two_reports(100, 100, 100 + 601))["undelivered"]
    assert evaluated(two_reports(100, 100, 100 + 600))["undelivered"]


def test_an_outage_explains_a_wait_only_while_it_lasts() -> None:
    outage = ScheduledFault(90 * S, DOWN, "uplink", HOUR_NS)
    assert evaluated(two_reports(100, 100, 90 + 3600 + 60 + 600), outage)["undelivered"]
    assert not evaluated(two_reports(100, 100, 90 + 3600 + 60 + 601), outage)["undelivered"]
    assert evaluated(two_reports(100, 100, None, waits=True), ScheduledFault(90 * S, DOWN, "uplink", None))[
        "undelivered"
    ]
    assert not evaluated(
        two_reports(100, 100, None, waits=True), ScheduledFault(90 * S, DOWN, "instrument:1", None)
    )["undelivered"]


def test_several_outages_explain_the_sum_of_their_times() -> None:
    outages = [ScheduledFault(at * S, DOWN, "uplink", 10 * S) for at in (100, 300, 1000)]
    recovery = DOWN.recovery_ns // S
    causes = Causes(outages, [], 600 * S)
    assert causes.unexplained(90 * S, 290 * S) == (190 - recovery) * S
    assert causes.unexplained(90 * S, 2000 * S) == (1910 - 3 * (10 + recovery)) * S
    assert causes.unexplained(305 * S, 2000 * S) == (1695 - 5 - recovery - 10 - recovery) * S
    assert causes.unexplained(0, 2000 * S) == (2000 - 20 - 3 * (10 + recovery)) * S


def test_a_fault_without_effect_on_delivery_is_not_an_outage() -> None:
    intruder = fault_kinds()["intruder-outside"]()
    assert outage_ends([ScheduledFault(100 * S, intruder, "uplink", 10 * S)]) == []
    assert outage_ends([ScheduledFault(100 * S, DOWN, "uplink", 10 * S)]) == [110 * S]


def test_a_slow_link_explains_a_wait_only_while_there_is_progress() -> None:
    slow = ScheduledFault(0, SLOW, "uplink", None)
    events = [slow]
    assert Causes(events, range(0, 7000 * S, 300 * S), 600 * S).unexplained(100 * S, 7000 * S) == 0
    assert Causes(events, [100 * S], 600 * S).unexplained(100 * S, 7000 * S) == pytest.approx(6300 * S)


def test_a_missing_acknowledgement_needs_a_fault_of_the_own_instrument() -> None:
    book = two_reports(100, None, None)
    assert not evaluated(book)["unacknowledged"]
    for target, holds in (("instrument:1", True), ("instrument:2", False), ("uplink", False)):
        assert evaluated(book, ScheduledFault(90 * S, DOWN, target, None))["unacknowledged"] is holds


def test_reports_lost_with_the_power_of_their_instrument_are_not_unacknowledged() -> None:
    book = two_reports(100, None, None)
    (run,) = book.runs.values()
    run.ended_ns = 200 * S
    assert evaluated(book)["unacknowledged"]
    run.ended_ns = 401 * S
    assert not evaluated(book)["unacknowledged"]


def test_one_named_number_accounts_for_only_one_report_of_all_instruments() -> None:
    book = ReportLedger()
    a, b = book.begin("A", 1), book.begin("B", 1)
    for run, numbers, first in ((a, 12, 1), (b, 3, 2)):
        for number in range(1, numbers + 1):
            run.made("status", number * S)
            run.acknowledged(number, number * S + 1)
        run.found(1, first, 2 * S)
        run.found(numbers, first + 3, 20 * S)
    gap = GapFound(at_ns=0, reason="disk-full", records=1, ranges=((3, 3),))
    outcome = LabOutcome(book, [1, 2, 4, 5], [gap], 0)
    assert (len(outcome.lost), len(outcome.dropped)) == (10, 1)


def test_named_numbers_are_assigned_where_they_are_needed() -> None:
    """Number 3 fits both windows, and number 5 only one of them."""
    book = ReportLedger()
    a, b = book.begin("A", 1), book.begin("B", 1)
    for run, first, last in ((a, 1, 6), (b, 2, 4)):
        for number in (1, 2, 3):
            run.made("status", number * S)
            run.acknowledged(number, number * S)
        run.found(1, first, 9 * S)
        run.found(3, last, 9 * S)
    gap = GapFound(at_ns=0, reason="corrupt", records=2, ranges=((3, 3), (5, 5)))
    outcome = LabOutcome(book, [1, 2, 4, 6], [gap], 0)
    assert (len(outcome.lost), len(outcome.dropped)) == (0, 2)


def test_an_altered_report_and_one_that_was_never_made_fail_the_lab() -> None:
    for digests in ([(1, 7)], [(1, 8)], [(1, 7), (3, 7)]):
        book = ReportLedger()
        run = book.begin("CHEM-0001", 1)
        run.made("status", S, 7)
        run.acknowledged(1, S)
        for number, digest in digests:
            book.found("CHEM-0001", 1, number, number, S, digest)
        assert evaluated(book)["altered"] is (digests == [(1, 7)])


def test_a_report_that_is_stored_twice_is_a_duplicate() -> None:
    book = two_reports(100, 100, 100)
    book.found("CHEM-0001", 1, 1, 9, 101 * S)
    assert not evaluated(book)["duplicates"]


def test_an_expectation_with_nothing_to_check_fails() -> None:
    nothing = evaluated(ReportLedger(), backlog_drained_within=S, latency_p99=S, alert_latency_p99=S)
    assert not any(nothing.values()), nothing
    quiet = evaluated(two_reports(100, 100, 100), backlog_drained_within=S, alert_latency_p99=S)
    assert {name for name, holds in quiet.items() if not holds} == {
        "backlog_drained_within",
        "alert_latency_p99",
    }
    unneeded = ScheduledFault(10 * S, DOWN, "uplink", 10 * S)  # over before the first report
    assert not evaluated(two_reports(100, 100, 100), unneeded, backlog_drained_within=S)[
        "backlog_drained_within"
    ]


def test_a_fault_that_never_ends_is_not_an_ended_outage() -> None:
    assert outage_ends([ScheduledFault(5, DOWN, "uplink", None)]) == []
    assert outage_ends([ScheduledFault(5, DOWN, "uplink", None), ScheduledFault(1, DOWN, "uplink", 10)]) == []


def test_latency_includes_reports_that_still_wait() -> None:
    assert not evaluated(two_reports(100, 100, None, waits=True), latency_p99=MINUTE_NS)["latency_p99"]


# -- whole labs


def test_a_lab_whose_instruments_are_always_cut_off_fails() -> None:
    cut = "".join(
        f'[[event]]\nat = "0s"\nfault = "link-down"\ntarget = "instrument:{port}"\n' for port in (1, 2)
    )
    result = run_lab(lab("30min", cut))
    assert result.reports.acknowledged == 0 < result.reports.made
    assert failed(result) == {"lost", "duplicates", "dropped", "altered", "undelivered"}


def test_a_lab_whose_forwarder_stops_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stopped(_: Forwarder) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Forwarder, "_forward_until_lost", stopped)
    monkeypatch.setattr(Forwarder, "_retry_delay", lambda *_: 1.0)
    assert failed(run_lab(lab("20min"))) == {"undelivered", "duplicates"}


REFUSED = """
[uplink]
rate = "1Mbit"
{proxy}
[[event]]
at = "0s"
fault = "{fault}"
target = "{target}"
"""
PROXY = 'proxy = { kind = "http", auth = "basic" }'


@pytest.mark.parametrize("duration", ["15s", "40s", "2min", "20min"])
@pytest.mark.parametrize(
    ("fault", "target", "proxy"),
    [
        ("proxy-refuses", "proxy", PROXY),
        ("proxy-inspects", "proxy", PROXY),
        ("link-down", "uplink", ""),
        ("dns-silent", "dns", ""),
    ],
)
def test_a_lab_in_which_nothing_is_stored_fails(fault: str, target: str, proxy: str, duration: str) -> None:
    site = SMALL_LAB.replace('"30d"', f'"{duration}"').replace('report_every = "1h"', 'report_every = "1s"')
    before, _, after = site.partition("[uplink]")
    after = after.partition("[[")[2]
    refused = REFUSED.format(proxy=proxy, fault=fault, target=target)
    result = run_lab(parse_lab(f"{before}[[{after}{refused}", Path("refused.toml")))
    assert (result.reports.stored, result.verdict) == (0, "fail")
    assert {"undelivered", "duplicates"} <= failed(result)


def test_a_lab_that_ends_before_a_missing_acknowledgement_is_late_fails() -> None:
    ledger = ReportLedger()
    for serial in ("CHEM-0001", "HEMA-0002"):
        ledger.begin(serial, 1).made("status", 1 * S)
    run = ledger.runs["CHEM-0001", 1]
    run.acknowledged(1, 2 * S)
    run.found(1, 1, 3 * S)
    within = {"acknowledged_within": 30 * S, "end_ns": 40 * S}
    assert not evaluated(ledger, **within)["unacknowledged"]
    assert (
        evaluated(ledger, ScheduledFault(0, DOWN, "instrument:2", None), **within)["unacknowledged"] is False
    ), "a fault of another port explains nothing"
    ledger.runs["HEMA-0002", 1].acknowledged(1, 2 * S)
    assert evaluated(ledger, **within)["unacknowledged"]


def test_a_lab_that_ends_before_a_commands_result_is_late_fails() -> None:
    command = '[[command]]\nat = "{}"\ntarget = "instrument:1"\nverb = "send-inventory"\n'
    assert failed(run_lab(lab("20min", command.format("1199s")))) == {"commands"}


def test_a_lab_whose_reports_lose_their_content_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def emptying(message: Message) -> bytes:
        if isinstance(message, Entry) and isinstance(message.body, Status):
            body = message.body
            message = Entry(
                message.instrument, message.run, Status(body.number, body.at_ms, body.state, 0, {})
            )
        return encode(message)

    monkeypatch.setattr(agents.box.intake.intake, "encode", emptying)
    assert failed(run_lab(lab("20min"))) == {"altered"}


def test_a_lab_with_a_refused_command_fails() -> None:
    command = '[[command]]\nat = "2min"\ntarget = "{}"\nverb = "send-inventory"\n'
    done = run_lab(lab("20min", command.format("instrument:1")))
    assert done.verdict == "pass"
    assert "commands" in {expectation.name for expectation in done.expectations}
    assert failed(
        run_lab(lab("20min", command.format("instrument:1").replace("send-inventory", "test-menu")))
    ) == {"commands"}, "an empty test menu is refused"
