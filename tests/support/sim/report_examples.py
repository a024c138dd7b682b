"""Invented but consistent results for tests of reports: a day at a clinic that passes, and one that fails.

Three instruments report all day over 128 kbit/s; the uplink is down from 02:00 to 05:00 and the box loses power at
08:00. Numbers come from a small queue model, so that the charts look like those of a real run.
"""

from __future__ import annotations

import hashlib
import random

import msgspec

from sim.verdict.latency import summarize
from sim.verdict.result import (
    AuditNote,
    BacklogSeries,
    Expectation,
    Failure,
    FaultOccurrence,
    GapFound,
    InstrumentResult,
    LayerBytes,
    ReportCounts,
    Result,
    Series,
    TracedReport,
    UplinkResult,
)

SECOND = 10**9
MINUTE, HOUR = 60 * SECOND, 3600 * SECOND
MINUTES = 24 * 60
DOWN = range(120, 300)  # minutes of the uplink's outage
OFF = 480  # the minute of the power cut

LINK_DOWN = FaultOccurrence(kind="link-down", at_ns=2 * HOUR, target="uplink", lasts_ns=3 * HOUR)
POWER_CUT = FaultOccurrence(kind="power-cut", at_ns=8 * HOUR, target="box")


def passing() -> Result:
    """Return a run of lab 01 that passes."""
    random_stream = random.Random(1)
    return Result(
        lab="01-clinic-128k",
        description="A clinic with three analyzers on a 128 kbit/s line that fails for three hours.",
        world="virtual",
        seed=1,
        commit="f1e2ea5",
        expectations=(
            _expectation(
                "lost", 0, 0, "Every acknowledged report is stored or accounted for by a gap record."
            ),
            _expectation("duplicates", 0, 0, "The data center stores no report twice."),
            Expectation(
                name="backlog_drained_within",
                limit=600,
                measured=107.25,
                holds=True,
                unit="s",
                explanation="After each outage the box delivers what had waited within this time.",
            ),
            Expectation(
                name="alert_latency_p99",
                limit=30,
                measured=1.62,
                holds=True,
                unit="s",
                explanation="Alerts made while the uplink is up reach the data center within this time.",
            ),
        ),
        reports=ReportCounts(
            made=12960, acknowledged=12958, stored=12958, waiting=0, lost=0, duplicates=0, dropped=0
        ),
        uplink=_uplink(),
        faults=(LINK_DOWN, POWER_CUT),
        sim_seconds=86_400.0,
        wall_seconds=11.4,
        trace_sha256=hashlib.sha256(b"01-clinic-128k").hexdigest(),
        replay="rap lab run labs/01-clinic-128k.toml --world virtual --seed 1",
        series=_series(random_stream),
        latencies=(
            summarize("alert", _latencies(random_stream, 57, 0.35)),
            summarize("audit", _latencies(random_stream, 31, 0.5)),
            summarize("routine", _latencies(random_stream, 12870, 1.2)),
        ),
        instruments=(
            _instrument("CA-2041", "chemistry-analyzer", 1, 4320, 21),
            _instrument("IA-0778", "immunoassay-analyzer", 2, 4320, 17),
            _instrument("HA-5310", "hematology-analyzer", 3, 4318, 19),
        ),
        notes=(
            AuditNote(at_ns=2 * HOUR + 8 * SECOND, priority="audit", source="RAP-0001", text="uplink-lost"),
            AuditNote(
                at_ns=5 * HOUR + 3 * SECOND, priority="audit", source="RAP-0001", text="uplink-restored"
            ),
            AuditNote(
                at_ns=6 * HOUR, priority="alert", source="CA-2041", text="L0102 lamp: warning, value 61"
            ),
            AuditNote(
                at_ns=8 * HOUR + 41 * SECOND, priority="audit", source="RAP-0001", text="started-after-crash"
            ),
        ),
        notes_total=88,
    )


def failing() -> Result:
    """Return a run in which the power cut loses three acknowledged reports and the backlog is never empty again."""
    base = passing()
    lost, duplicates, drained, alert = base.expectations
    return msgspec.structs.replace(
        base,
        seed=4711,
        expectations=(
            msgspec.structs.replace(lost, measured=3, holds=False),
            duplicates,
            msgspec.structs.replace(drained, measured=None, holds=False),
            alert,
        ),
        reports=ReportCounts(
            made=12960, acknowledged=12958, stored=12949, waiting=1, lost=3, duplicates=0, dropped=5
        ),
        replay="rap lab run labs/01-clinic-128k.toml --world virtual --seed 4711",
        failures=(_lost_in_the_power_cut(), _never_drained()),
        instruments=(
            msgspec.structs.replace(base.instruments[0], stored=4312, lost=3, dropped=5),
            *base.instruments[1:],
        ),
    )


def hostile() -> Result:
    """Return a result in which every text contains markup."""
    evil = "</script><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>&\"'"
    base = failing()
    return msgspec.structs.replace(
        base,
        lab=evil,
        description=evil,
        replay=evil,
        expectations=(_expectation(evil, 0, 1, evil),),
        faults=(FaultOccurrence(kind=evil, at_ns=HOUR, target=evil),),
        instruments=(_instrument(evil, evil, 1, 5, 0),),
        notes=(AuditNote(at_ns=0, priority="alert", source=evil, text=evil),),
        failures=(msgspec.structs.replace(base.failures[0], expectation=evil, explanation=evil),),
    )


def bare() -> Result:
    """Return a result with only the required fields: no series, latencies or causes."""
    base = passing()
    return msgspec.structs.replace(
        base,
        description="",
        commit=None,
        faults=(),
        uplink=UplinkResult(bytes_up=0, bytes_down=0, seconds_busy=0.0),
        series=None,
        latencies=(),
        instruments=(),
        notes=(),
        notes_total=0,
    )


def _lost_in_the_power_cut() -> Failure:
    return Failure(
        expectation="lost",
        explanation="3 acknowledged reports are neither stored, nor on the box's disk, nor in a gap record.",
        reports=tuple(
            TracedReport(
                instrument="CA-2041",
                run=1,
                number=1437 + i,
                kind="status",
                made_ns=8 * HOUR - (3 - i) * 20 * SECOND,
                acknowledged_ns=8 * HOUR - (3 - i) * 20 * SECOND + 4_200_000,
                outcome="in a torn sector of segment 12 when the power failed",
            )
            for i in range(3)
        ),
        reports_total=3,
        fault_before=POWER_CUT,
        gaps=(
            GapFound(
                at_ns=8 * HOUR + 42 * SECOND,
                reason="corrupt",
                records=5,
                ranges=((5203, 5206), (5209, 5209)),
            ),
        ),
    )


def _never_drained() -> Failure:
    return Failure(
        expectation="backlog_drained_within",
        explanation="The backlog of the outage that ended at 05:00:00 was not empty at the end of the run.",
        fault_before=LINK_DOWN,
    )


def _expectation(name: str, limit: int, measured: int, explanation: str) -> Expectation:
    return Expectation(
        name=name,
        limit=limit,
        measured=measured,
        holds=measured <= limit,
        relation="exactly",
        explanation=explanation,
    )


def _instrument(serial: str, model: str, port: int, made: int, alerts: int) -> InstrumentResult:
    return InstrumentResult(
        serial=serial,
        model=model,
        port=port,
        made=made,
        acknowledged=made,
        stored=made,
        lost=0,
        dropped=0,
        alerts=alerts,
    )


def _uplink() -> UplinkResult:
    up = LayerBytes(payload=561_204, http=1_310_775, tls=377_412, tcpip=905_133)
    down = LayerBytes(payload=26_804, http=402_118, tls=371_020, tcpip=884_906)
    return UplinkResult(
        bytes_up=3_154_524,
        bytes_down=1_684_848,
        seconds_busy=197.2,
        up=up,
        down=down,
        rate_bps=128_000,
        description="128 kbit/s, 40 ms ± 10 ms, 0.5 % loss, HTTP proxy with basic authentication",
    )


def _series(random_stream: random.Random) -> Series:
    """Return a series with one bin per minute; when the link is up again, at most 900 records a minute are sent."""
    up, down, busy = [], [], []
    backlog: dict[str, list[int]] = {"alert": [], "audit": [], "routine": []}
    waiting = {"alert": 0, "audit": 0, "routine": 0}
    for minute in range(MINUTES):
        made = {"alert": random_stream.random() < 0.04, "audit": random_stream.random() < 0.02, "routine": 9}
        for priority, number in made.items():
            waiting[priority] += number
        capacity = 0 if minute in DOWN or minute == OFF else 900
        sent = 0
        for priority in backlog:
            delivered = min(waiting[priority], capacity - sent)
            waiting[priority] -= delivered
            sent += delivered
            backlog[priority].append(waiting[priority])
        noise = random_stream.uniform(0.85, 1.15) if sent else 0
        up.append(min(round((1400 + 55 * sent) * noise), 960_000))
        down.append(round((1000 + 11 * sent) * noise))
        busy.append(min(1.0, up[-1] * 8 / 60 / 128_000))
    return Series(
        bin_ns=MINUTE,
        bytes_up=tuple(up),
        bytes_down=tuple(down),
        busy=tuple(busy),
        backlog=BacklogSeries(**{priority: tuple(samples) for priority, samples in backlog.items()}),
        connected=(
            (2 * SECOND, 2 * HOUR + 8 * SECOND),
            (5 * HOUR + 3 * SECOND, 8 * HOUR),
            (8 * HOUR + 41 * SECOND, 24 * HOUR),
        ),
    )


def _latencies(random_stream: random.Random, count: int, typical_s: float) -> list[int]:
    """Return latencies in ns: log-normal, except for an eighth of them, which wait for the end of the outage."""
    return [
        round(random_stream.uniform(5, 10_800) * SECOND)
        if random_stream.random() < 1 / 8
        else round(random_stream.lognormvariate(0, 0.4) * typical_s * SECOND)
        for _ in range(count)
    ]
