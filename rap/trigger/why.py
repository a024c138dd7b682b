"""`rap trigger why`: recomputes an alert from the stored reports, and explains it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rap.dc.store import open_store
from rap.outcome import FAILED, OK, WrongInput
from rap.parser import Parser
from rap.utc import utc_minute

if TYPE_CHECKING:
    from datacenter.evaluation.alerts import AlertEvidence, SilenceEvidence
    from datacenter.explanation.evidence import AlertRecord
    from datacenter.explanation.replay import Moment, Recomputation
    from datacenter.explanation.silence import SilenceCheck
    from datacenter.triggers.triggerfile import Trigger


def add_options(parser: Parser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("alert", metavar="ALERT", help="the alert's identifier, as on its page")
    parser.add_argument(
        "--config", metavar="FILE", type=Path, required=True, help="TOML configuration of the data center"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def why(arguments: argparse.Namespace) -> int:
    """Explain an alert; the exit status is FAILED if the recomputation does not confirm it."""
    from datacenter.evaluation.alerts import SilenceEvidence
    from datacenter.evaluation.triggerset import TriggerSet, read_triggers
    from datacenter.explanation.evidence import UnexplainedError, evidence_of, read_record, trigger_of
    from datacenter.explanation.replay import recompute
    from datacenter.explanation.silence import check_silence

    with open_store(arguments.config) as (config, store):
        record = read_record(store, arguments.alert)
        if record is None:
            raise WrongInput(f"there is no alert {arguments.alert}; `rap dc alert list` lists them")
        try:
            evidence = evidence_of(record)
            if isinstance(evidence, SilenceEvidence):
                return _show_silence(arguments, record, evidence, check_silence(store, record, evidence))
            folder = config.evaluation.triggers
            in_force = read_triggers(folder) if folder else TriggerSet([])
            trigger = trigger_of(record, evidence, in_force)
            try:
                result = recompute(store, record, evidence, trigger)
            except UnexplainedError as error:
                # reports have a limited retention time; the reports of the span may still exist, but can only confirm
                # the alert
                result = recompute(store, record, evidence, trigger, is_whole=False)
                if not result.is_confirmed:
                    raise
                print(f"rap: only the span before the alert is evaluated: {error}", file=sys.stderr)
        except UnexplainedError as error:
            raise WrongInput(str(error)) from error
        now = in_force.triggers.get(record.trigger)
        return _show(arguments, record, evidence, result, now)


def _show(
    arguments: argparse.Namespace,
    record: AlertRecord,
    evidence: AlertEvidence,
    result: Recomputation,
    in_force: Trigger | None,
) -> int:
    if arguments.json:
        print(json.dumps(_document(record, evidence, result), indent=2))
        return OK if result.is_confirmed else FAILED
    table = result.trigger.table
    note = "" if in_force and in_force.fingerprint == record.trigger_hash else "; its text has changed since"
    since_ms = result.holds_since_ms
    first, last = result.first or (0, 0), result.reports.wanted.last
    lines = [
        ("alert", f"{record.id}, {record.trigger} of {record.instrument} at {record.box}"),
        ("trigger hash", f"{record.trigger_hash}{note}"),
        ("condition", " ".join(table.when.split())),
        ("lasts", f"{table.lasts}, it held since {_time(since_ms)}" if table.lasts and since_ms else ""),
        ("until", " ".join(table.until.split())),
        ("began", f"{_time(record.began_at_ms)} with run {record.run}, number {record.number}"),
        ("ended", f"{_time(record.ended_at_ms)} with run {record.end_run}, number {record.end_number}")
        if record.ended_at_ms is not None
        else ("", ""),
        (
            "evidence",
            f"{len(result.reports)} reports, of which {len(result.reports.archived)} from the archive: "
            f"run {first[0]}, number {first[1]} to run {last[0]}, number {last[1]}",
        ),
    ]
    for name, text in lines:
        if text:
            print(f"{name:13} {text}")
    print()
    _print_moments(result)
    print()
    for difference in result.differences:
        print(f"not confirmed: {difference}")
    if result.is_confirmed:
        since_ms = result.reports.wanted.since_ms
        values = "with the recorded values" if not since_ms else "the values were not compared"
        print(f"confirmed: the stored reports give this alert again, {values}")
    return OK if result.is_confirmed else FAILED


def _print_moments(result: Recomputation) -> None:
    """Print a table of the terms' values; a list above it numbers the terms, and the columns have these numbers."""
    from datacenter.triggers.functions import text_of
    from datacenter.triggers.tree import terms

    shown = list(dict.fromkeys((*terms(result.trigger.fires), *terms(result.trigger.clears))))
    for number, term in enumerate(shown, 1):
        print(f"  [{number}] {text_of(term)}")
    print(
        f"{'time (UTC)':17} {'report':>12}", *(f"{f'[{number}]':>11}" for number in range(1, len(shown) + 1))
    )
    for moment in result.moments:
        values = (_value(moment.values[term]) for term in shown)
        print(
            f"{_time(moment.at_ms):17} {f'{moment.id[0]}/{moment.id[1]}':>12}",
            *(f"{value:>11}" for value in values),
            f" {_state(moment)}",
        )


def _state(moment: Moment) -> str:
    return moment.event or ("holds" if moment.holds else "")


def _show_silence(
    arguments: argparse.Namespace, record: AlertRecord, evidence: SilenceEvidence, result: SilenceCheck
) -> int:
    outcome = OK if result.is_confirmed else FAILED
    if arguments.json:
        document = {"alert": record.id, "condition": evidence.condition, **result._asdict()}
        print(json.dumps(document | {"confirmed": result.is_confirmed}, indent=2))
        return outcome
    subject = record.instrument or ", ".join(evidence.members) or record.box
    print(f"alert         {record.id}, {record.trigger} of {subject}")
    print(f"condition     {evidence.condition}")
    print(f"latest report {_time(result.last_seen_ms)}")
    print(f"began         {_time(record.began_at_ms)}")
    print(
        "confirmed: no report from the time between them is stored"
        if result.is_confirmed
        else f"not confirmed: {result.reports} reports from the time between them are stored"
    )
    return outcome


def _document(record: AlertRecord, evidence: AlertEvidence, result: Recomputation) -> dict[str, Any]:
    from datacenter.triggers.functions import text_of

    table = result.trigger.table
    return {
        "alert": record.id,
        "trigger": record.trigger,
        "trigger_hash": record.trigger_hash,
        "condition": table.when,
        "lasts": table.lasts,
        "until": table.until,
        "holds_since_ms": result.holds_since_ms,
        "began_at_ms": record.began_at_ms,
        "reports": len(result.reports),
        "first": result.first,
        "last": result.reports.wanted.last,
        "terms": {"recorded": evidence.terms, "recomputed": result.terms},
        "moments": [
            {
                "at_ms": moment.at_ms,
                "run": moment.id[0],
                "number": moment.id[1],
                "terms": {text_of(term): value for term, value in moment.values.items()},
                "holds": moment.holds,
                "event": moment.event,
            }
            for moment in result.moments
        ],
        "differences": result.differences,
        "confirmed": result.is_confirmed,
    }


def _time(ms: int | None) -> str:
    return "–" if ms is None else utc_minute(ms)


def _value(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.7g}"
