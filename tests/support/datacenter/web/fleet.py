"""A small fleet in a store: sites in three regions, boxes, instruments, alerts, and days of simulated reports.

The evaluated state (`instruments`, `alerts`) is inserted, not computed, so that the content of each page is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import msgspec
import numpy as np
from sqlalchemy import insert, update

from datacenter.base.histogram import Histogram, encode_histogram
from datacenter.commands.files import FileArchive
from datacenter.evaluation.alerts import begin
from datacenter.papers.filed import file_upload
from datacenter.papers.upload import PAPERS
from datacenter.releases.plan import RolloutPlan, encode_plan
from datacenter.store.store import Store
from datacenter.store.tables.schema import (
    alerts,
    base_days,
    boxes,
    certificates,
    denied_boxes,
    enrolments,
    evaluated,
    instruments,
    maintenance,
    remote_sessions,
    rollouts,
    session_notes,
    sites,
    update_orders,
)
from datacenter.triggers.live import LiveEvaluator, LiveFunctions
from datacenter.triggers.triggerfile import TriggerTable, make_trigger
from sim.instruments.history import History
from trust.papers import Papers, encode_papers
from wire.messages import Batch, Entry, InstrumentReport, Status, decode, encode, encode_batch

DAY_MS = 86_400_000
DAYS = 3
NOW_MS = 20_400 * DAY_MS + 10 * 3_600_000
START_MS = 20_400 * DAY_MS - (DAYS - 1) * DAY_MS
SITES = [
    ("berlin-1", "Klinikum Nord", "DE", "europe", "Europe/Berlin", 52.5, 13.4),
    ("porto-1", "Hospital d'Água & <Rio>", "PT", "europe", "Europe/Lisbon", 41.2, -8.6),
    ("boston-1", "Harbor Medical Center", "US", "america", "America/New_York", 42.4, -71.1),
    ("osaka-1", "Osaka Central Laboratory", "JP", "asia", "Asia/Tokyo", None, None),
]
BOXES = {"RAP-0001": "berlin-1", "RAP-0002": "porto-1", "RAP-0003": "boston-1", "RAP-0004": "osaka-1"}
INSTRUMENTS = [
    ("RAP-0001", "CHEM-0001", "chemistry-analyzer"),
    ("RAP-0001", "HEMA-0001", "hematology-analyzer"),
    ("RAP-0002", "CHEM-0002", "chemistry-analyzer"),
    ("RAP-0003", "GAS-0001", "blood-gas-analyzer"),
    ("RAP-0004", "IMMU-0001", "immunoassay-analyzer"),
]
SIMULATED = "CHEM-0001"
"""The instrument with days of simulated reports."""
GAP = (1500, 1700)
"""The first and the last number of SIMULATED's reports that are not stored."""
OFF_MS = (START_MS + 36 * 3_600_000, START_MS + 40 * 3_600_000)
"""The beginning and the end of the time in which SIMULATED was off."""
BATCH = 500
"""Reports per batch."""
BASE_READINGS = [("reaction-temp-mc", 37_010, 15), ("vacuum-pa", 80_000, 900), ("lamp-intensity-pct", 88, 5)]
"""Reading, mean and standard deviation in the installed base."""
BASE_SHORT = range(20, 27)
"""The days of 90 on which few instruments of Europe had readings."""
WAITING_FILE = bytes(40_000)
"""The file of the command that waits for approval."""
COMMAND = {"requester": "engineer", "purpose": "service", "expires_at_ms": NOW_MS + DAY_MS}


def fill_fleet(store: Store, *, with_reports: bool = True) -> None:
    """Fill an empty store; without reports, only with the evaluated state."""
    store.authorize(list(BOXES), START_MS)
    names = ("site", "name", "country", "region", "zone", "latitude", "longitude")
    with store.transaction() as connection:
        connection.execute(insert(sites), [dict(zip(names, row, strict=True)) for row in SITES])
        for box, site in BOXES.items():
            connection.execute(update(boxes).where(boxes.c.serial == box).values(site=site))
    latest = Status(3436, NOW_MS - 1000, "running", 1137, {"lamp-intensity-pct": 89})
    if with_reports:
        reports = simulated_reports()
        ingest(store, "RAP-0001", SIMULATED, reports)
        latest = [report for report in reports if isinstance(report, Status)][-1]
    fill_state(store, latest)
    fill_alerts(store)
    fill_commands(store)
    fill_maintenance(store)
    fill_base(store)
    fill_sessions(store)
    fill_rollouts(store)
    fill_papers(store)
    fill_enrolments(store)


def fill_papers(store: Store) -> None:
    """File papers without statements of two boxes, one in Europe and one in America."""
    for box in ("RAP-0001", "RAP-0003"):
        papers = Papers(
            site=BOXES[box],
            made_at="2025-11-01T00:00:00Z",
            machine="tree",
            facts=[],
            evidence=[],
            documents=[],
            answers=[],
        )
        file_upload(store, box, {PAPERS: encode_papers(papers)}, "engineer", NOW_MS - DAY_MS)


def simulated_reports() -> list[InstrumentReport]:
    """Return the reports of SIMULATED without those in GAP. The reports of OFF_MS are left out before numbering."""
    history = History("chemistry-analyzer", SIMULATED, seed=7, start_ms=START_MS)
    simulated = history.until((DAYS - 1) * 86_400_000_000_000 + 10 * 3_600_000_000_000)
    kept: list[InstrumentReport] = []
    number = 0
    for report in simulated:
        if OFF_MS[0] <= report.at_ms < OFF_MS[1]:
            continue
        number += 1
        if not GAP[0] <= number <= GAP[1]:
            kept.append(msgspec.structs.replace(report, number=number))
    return kept


def ingest(
    store: Store, box: str, instrument: str, reports: Sequence[InstrumentReport], first: int = 1
) -> None:
    """Store reports of one run in batches, as a box sends them; `first` is the first sequence number."""
    sequence = first - 1
    for offset in range(0, len(reports), BATCH):
        part = reports[offset : offset + BATCH]
        entries = []
        for report in part:
            sequence += 1
            entries.append((sequence, encode(Entry(instrument, 1, report))))
        store.ingest(box, decode(Batch, encode_batch(1, entries)), part[-1].at_ms + 1500)


def fill_sessions(store: Store) -> None:
    """Insert two ended sessions of the engineer, one in Europe and one in America, each with a note."""
    rows = [("RAP-0001", "CHEM-0001"), ("RAP-0003", "GAS-0001")]
    common = {
        "staff": "engineer",
        "role": "service-engineer",
        "purpose": "service",
        "mode": "control",
        "service": "rfb",
        "ticket": "T-17",
        "port": 2,
        "tcp_port": 5900,
        "state": "ended",
        "cause": "ended by staff",
    }
    with store.transaction() as connection:
        for number, (box, instrument) in enumerate(rows, 1):
            at_ms, session = NOW_MS - number * 3_600_000, f"{number:032x}"
            times = {"requested_at_ms": at_ms, "opened_at_ms": at_ms + 60_000, "ended_at_ms": at_ms + 900_000}
            named = {"id": session, "box": box, "instrument": instrument, "reason": f"error at {instrument}"}
            values = {**common, **named, **times, "expires_at_ms": at_ms + 1_800_000}
            connection.execute(insert(remote_sessions).values(values))
            note = {"session": session, "number": 1, "at_ms": at_ms, "staff": "engineer", "text": "done"}
            connection.execute(insert(session_notes).values(note))


def fill_enrolments(store: Store) -> None:
    """Insert certificates, a denied box, and enrolment requests: a box in Europe, one in America, an unknown one."""
    requests = (("RAP-0001", "1e", "expired"), ("RAP-0003", "2e", "other-key"), ("RAP-0042", "3e", "unknown"))
    with store.transaction() as connection:
        for box, key, reason in requests:
            row = {"box": box, "key": key * 32, "reason": reason, "state": "waiting"}
            times = {"asked_at_ms": NOW_MS - 3_600_000, "seen_at_ms": NOW_MS - 60_000}
            connection.execute(insert(enrolments).values(row | times))
        for number, (box, days) in enumerate((("RAP-0001", -1), ("RAP-0002", 5), ("RAP-0003", 80)), 1):
            expires_at_ms = NOW_MS + days * DAY_MS
            issued = {"issued_at_ms": expires_at_ms - 90 * DAY_MS, "expires_at_ms": expires_at_ms}
            row = {"serial_number": f"{number:x}", "box": box, "key": "f" * 64, "cause": "renewal"}
            connection.execute(insert(certificates).values(row | issued | {"certificate": b""}))
        for serial, box, instrument in (("a", "RAP-0002", "HEMA-0002"), ("b", "RAP-0003", "GAS-0001")):
            row = {"serial_number": serial, "box": box, "instrument": instrument, "cause": "first"}
            life = {"issued_at_ms": NOW_MS - 30 * DAY_MS, "expires_at_ms": NOW_MS + 60 * DAY_MS}
            connection.execute(insert(certificates).values(key="e" * 64, certificate=b"", **row, **life))
        denial = {"denied_at_ms": NOW_MS - 7_200_000, "denied_by": "supervisor", "reason": "stolen <van>"}
        connection.execute(insert(denied_boxes).values({"box": "RAP-0004", **denial}))


def fill_rollouts(store: Store) -> None:
    """Insert two running rollouts of the engineer, one in Europe and one in America; in each, a box has failed."""
    with store.transaction() as connection:
        for number, region, box in ((7001, "europe", "RAP-0001"), (7002, "america", "RAP-0003")):
            plan = RolloutPlan(release=12, place=f"region/{region}", waves=(50, 100), failures_percent=100)
            values = {
                "id": number,
                "release": 12,
                "name": "1.12.0",
                "kind": "system",
                "site": "",
                "country": "",
                "region": region,
                "plan": encode_plan(plan),
                "requester": "engineer",
                "purpose": "service",
                "created_at_ms": NOW_MS - 7_200_000,
                "state": "running",
                "wave_began_at_ms": NOW_MS - 3_600_000,
                "approved_by": "supervisor",
                "approved_at_ms": NOW_MS - 3_700_000,
                "changed_at_ms": NOW_MS - 3_700_000,
            }
            connection.execute(insert(rollouts).values(values))
            order = {
                "rollout": number,
                "box": box,
                "release": 12,
                "wave": 0,
                "joined_at_ms": NOW_MS - 3_600_000,
                "ordered_at_ms": NOW_MS - 3_600_000,
                "deadline_ms": NOW_MS + plan.answer_ms,
                "step": "returned",
                "rank": 11,
                "reason": "unhealthy",
                "step_at_ms": NOW_MS - 600_000,
                "ended_at_ms": NOW_MS - 600_000,
            }
            connection.execute(insert(update_orders).values(order))


def fill_state(store: Store, latest: Status) -> None:
    """Insert the evaluated state: CHEM-0002 is silent, the others have just reported.

    All instruments are at port 2 of their boxes, except CHEM-0002, whose port is not known.
    """
    rows = []
    for box, serial, model in INSTRUMENTS:
        stored_at_ms = NOW_MS - (5 * 3_600_000 if serial == "CHEM-0002" else 40_000)
        rows.append(
            {
                "box": box,
                "serial": serial,
                "model": model,
                "profile_version": 2,
                "port": None if serial == "CHEM-0002" else 2,
                "run": 1,
                "number": latest.number,
                "at_ms": stored_at_ms - 1000,
                "stored_at_ms": stored_at_ms,
                "state": latest.state,
                "samples": latest.samples,
                "readings": msgspec.msgpack.encode(latest.readings),
                "evaluation": b"",
            }
        )
    with store.transaction() as connection:
        connection.execute(insert(instruments), rows)
        connection.execute(
            insert(evaluated).values(box="RAP-0001", epoch=1, sequence=latest.number, moved_at_ms=NOW_MS)
        )


def fill_alerts(store: Store) -> None:
    """Insert two open alerts, one of which is acknowledged, and an ended one."""
    rows = [
        alert_row("a-lamp", "RAP-0001", "CHEM-0001", "chemistry-analyzer", "lamp-wears-out", "error", "lamp"),
        alert_row(
            "a-lamp-old",
            "RAP-0001",
            "CHEM-0001",
            "chemistry-analyzer",
            "L0100",
            "warning",
            "lamp",
            began_at_ms=NOW_MS - 30 * DAY_MS,
            ended_at_ms=NOW_MS - 28 * DAY_MS,
        ),
        alert_row(
            "a-slot",
            "RAP-0003",
            "GAS-0001",
            "blood-gas-analyzer",
            "D0100",
            "critical",
            "cartridge-slot",
            acknowledged_at_ms=NOW_MS - 60_000,
            acknowledged_by="observer",
        ),
    ]
    with store.transaction() as connection:
        for row in rows:
            connection.execute(insert(alerts).values(row))


def fill_base(store: Store) -> None:
    """Insert 90 days of the installed base of chemistry analyzers: everywhere, and in Europe with BASE_SHORT."""
    rows = []
    for (reading, mean, deviation), day in product(
        BASE_READINGS, range(NOW_MS // DAY_MS - 90, NOW_MS // DAY_MS)
    ):
        random = np.random.default_rng(day)
        for place, count, offset in (("everywhere", 40, 0), ("region/europe", 12, deviation)):
            is_short = place != "everywhere" and day % 90 in BASE_SHORT
            readings = random.normal(mean + offset, deviation, 500).astype(np.int64)
            body = encode_histogram(Histogram.of_instrument(readings))
            key = {"model": "chemistry-analyzer", "reading": reading, "place": place, "day": day}
            rows.append({**key, "instruments": 4 if is_short else count, "body": body})
    with store.transaction() as connection:
        connection.execute(insert(base_days), rows)


def fill_commands(store: Store) -> None:
    """Insert commands: one in Europe (1), one in America with a file (2), one in Europe waiting for approval (3)."""
    archive = FileArchive(store)
    store.queue_command("RAP-0001", "CHEM-0001", "send-inventory", b"", NOW_MS - 60_000, **COMMAND)
    abroad = {**COMMAND, "file": archive.keep(b"help", NOW_MS - 50_000), "file_bytes": 4}
    store.queue_command("RAP-0003", "GAS-0001", "help-file", b"", NOW_MS - 50_000, **abroad)
    waiting = {**COMMAND, "state": "waiting for approval", "purpose": "application-support"}
    sha256 = archive.keep(WAITING_FILE, NOW_MS - 40_000)
    file = {"file": sha256, "file_bytes": len(WAITING_FILE), "requester": "specialist"}
    store.queue_command(
        "RAP-0001", "CHEM-0001", "assay-configuration", b"", NOW_MS - 40_000, **{**waiting, **file}
    )


def alert_row(
    identity: str,
    box: str,
    instrument: str,
    model: str,
    trigger: str,
    severity: str,
    component: str,
    **columns: object,
) -> dict[str, object]:
    """Return a row of the table `alerts` that began two hours ago; `columns` are added or replaced."""
    began_at_ms = NOW_MS - 2 * 3_600_000
    return {
        "id": identity,
        "box": box,
        "instrument": instrument,
        "model": model,
        "trigger": trigger,
        "trigger_hash": "9f2c6a417b0de853" * 4,
        "severity": severity,
        "component": component,
        "run": 1,
        "number": 3000,
        "began_at_ms": began_at_ms,
        "raised_at_ms": began_at_ms + 2000,
        "evidence": msgspec.msgpack.encode({"reports": [[1, 2900, 3000]], "lamp-intensity-pct": 68}),
        **columns,
    }


def fill_maintenance(store: Store) -> None:
    """Insert two maintenance windows that have ended."""
    times = {"from_ms": START_MS - DAY_MS, "until_ms": START_MS - DAY_MS // 2, "planned_at_ms": 0}
    common = {"kind": "instrument", "covers_critical": 1, "reason": "new lamp", "planned_by": "supervisor"}
    with store.transaction() as connection:
        for number, (box, instrument, _) in enumerate((INSTRUMENTS[0], INSTRUMENTS[3])):
            names = {"id": f"m{number}", "site": BOXES[box], "box": box, "instrument": instrument}
            connection.execute(insert(maintenance).values(names | times | common))


def raise_alert(store: Store) -> str:
    """Evaluate a trigger over the reports of SIMULATED, and store the first alert; return its id."""
    condition = "mean(ambient-temp-mc, 1h) > mean(ambient-temp-mc, 6h) + 100 and count(B0101, 6h) < 900"
    until = "mean(ambient-temp-mc, 1h) < mean(ambient-temp-mc, 6h)"
    table = TriggerTable(
        "chemistry-analyzer", "warning", "lamp", "The room is warm", condition, "10min", until
    )
    trigger = make_trigger("warm-room", table)
    evaluator = LiveEvaluator(LiveFunctions([trigger]))
    for report in simulated_reports():
        evaluator.start_terms(1, report.number)
        for transition in evaluator.evaluate(report):
            origin = ("RAP-0001", SIMULATED, 1, report.number)
            with store.transaction() as connection:
                return begin(connection, origin, transition, evaluator, NOW_MS).id
    raise AssertionError("the trigger began no alert")
