"""`rap trigger test`: scores triggers."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rap.outcome import FAILED, OK, MachineLacks, WrongInput
from rap.parser import Parser

if TYPE_CHECKING:
    from datacenter.scoring.outcome import InstrumentOutcome, Scores
    from datacenter.scoring.scorefile import Demands
    from datacenter.scoring.tally import Score
    from datacenter.scoring.visits import VisitScore
    from datacenter.triggers.triggerfile import Trigger

DAYS: Final = 365
YEARS: Final = 26
SEED: Final = 6001
PROGRESS_SECONDS: Final = 5.0


def add_options(parser: Parser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="files of a set of triggers")
    parser.add_argument(
        "--years", type=_years, default=YEARS, help=f"simulated years of each model (default: {YEARS})"
    )
    parser.add_argument("--seed", type=_positive, default=SEED, help=f"the first seed (default: {SEED})")
    parser.add_argument(
        "--cache",
        metavar="FOLDER",
        type=Path,
        default=Path("build/histories"),
        help="keeps simulated histories",
    )
    parser.add_argument("--processes", type=_positive, default=os.cpu_count() or 1)
    parser.add_argument(
        "--write", action="store_true", help="record the scores in scores.toml beside the files"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    for name, meaning in (
        ("recall", "minimum recall of the set"),
        ("lead-share", "minimum median lead of the set, as a share of the possible lead"),
        ("false-per-year", "maximum false alarms of the set per instrument-year"),
        ("parts-right", "minimum share of correct parts of the set"),
    ):
        parser.add_argument(f"--{name}", type=float, metavar="NUMBER", help=f"demand: {meaning}")


def test(arguments: argparse.Namespace) -> int:
    """Test the triggers, and print their scores."""
    from datacenter.scoring.outcome import scores
    from datacenter.scoring.scorefile import SCORES, read_scores, trigger_files, write_scores
    from datacenter.scoring.visits import score_visits
    from datacenter.triggers.silencefile import is_silence
    from datacenter.triggers.triggerfile import read_trigger
    from settings.problems import SettingsError

    try:
        files = [file for file in arguments.files if file.name != SCORES and not is_silence(file)]
        triggers = [read_trigger(file) for file in files]
        folder = files[0].parent if files else Path()
        demands = _demands(arguments, read_scores(folder).demanded)
    except SettingsError as error:
        raise WrongInput(str(error)) from error
    if not files or len({file.resolve().parent for file in files}) > 1:
        raise WrongInput("give trigger files of one folder")
    instruments = list(_simulated(triggers, arguments))
    measured = scores(triggers, instruments)
    visits = score_visits(triggers, instruments)
    if arguments.write:
        scored = [file for file in trigger_files(folder) if not is_silence(file)]
        is_whole = {file.resolve() for file in scored} == {file.resolve() for file in files}
        write_scores(folder, triggers, measured, _history(arguments), is_whole=is_whole)
    reports, seconds = (
        sum(result.reports for result in instruments),
        sum(result.seconds for result in instruments),
    )
    missed = list(_missed(demands, measured.whole))
    if arguments.json:
        _print_json(measured, visits, reports, seconds, missed)
    else:
        _print_table(measured)
        print(
            f"{visits.visits} visits with {visits.parts} parts: {_text(visits.precision)} of the parts right, "
            f"{_text(visits.complete)} of the visits with all failing parts"
        )
        print(f"{reports:,} reports, {seconds / max(reports, 1) * 1e6:.2f} µs a report")
        print(*missed, sep="\n", end="\n" if missed else "")
    return FAILED if missed else OK


def _seeds(arguments: argparse.Namespace) -> tuple[range, int]:
    """Return the seeds of the instruments of a model, and the number of days to simulate for each."""
    count = ceil(arguments.years)
    return range(arguments.seed, arguments.seed + count), round(DAYS * arguments.years / count)


def _history(arguments: argparse.Namespace) -> str:
    seeds, days = _seeds(arguments)
    return f"simulated: seeds {seeds[0]} to {seeds[-1]}, {days} days each"


def _demands(arguments: argparse.Namespace, demanded: Demands) -> Demands:
    """Return the required scores of the command line, or else those of the folder's scores.toml."""
    import msgspec

    given = {name: getattr(arguments, name) for name in demanded.__struct_fields__}
    return msgspec.structs.replace(
        demanded, **{name: value for name, value in given.items() if value is not None}
    )


def _simulated(triggers: list[Trigger], arguments: argparse.Namespace) -> Iterator[InstrumentOutcome]:
    from concurrent.futures import ProcessPoolExecutor

    from sim.backtest.run import run_tests

    seeds, days = _seeds(arguments)
    models = {trigger.table.model for trigger in triggers}
    with ProcessPoolExecutor(arguments.processes) as executor:
        tested = run_tests(triggers, seeds, days, arguments.cache, executor)
        try:
            yield from _with_progress(tested, len(seeds) * len(models))
        except OSError as error:
            raise MachineLacks(
                f"--cache {arguments.cache}: {error}; give a folder that can be written"
            ) from error


def _with_progress(tested: Iterable[InstrumentOutcome], count: int) -> Iterator[InstrumentOutcome]:
    """Report the progress on standard error every few seconds."""
    began = shown = time.monotonic()
    for done, result in enumerate(tested, 1):
        yield result
        now = time.monotonic()
        if now - shown >= PROGRESS_SECONDS:
            remaining_s = (now - began) / done * (count - done)
            print(f"rap: {done} of {count} instruments, about {remaining_s:.0f} s left", file=sys.stderr)
            shown = now


def _missed(demands: Demands, set_score: Score) -> Iterator[str]:
    for name, demanded in (
        ("recall", demands.recall),
        ("lead_share", demands.lead_share),
        ("parts_right", demands.parts_right),
    ):
        value = getattr(set_score, name)
        if demanded is not None and (value is None or value < demanded):
            yield f"missed: {name}: {_text(value)}, demanded at least {demanded:g}"
    if demands.false_per_year is not None and set_score.false_per_year > demands.false_per_year:
        yield f"missed: false_per_year: {set_score.false_per_year:g}, demanded at most {demands.false_per_year:g}"


def _print_json(scores: Scores, visits: VisitScore, reports: int, seconds: float, missed: list[str]) -> None:
    import msgspec

    document = {
        "set": msgspec.to_builtins(scores.whole),
        "triggers": msgspec.to_builtins(scores.triggers),
        "visits": msgspec.to_builtins(visits),
        "reports": reports,
        "us_per_report": round(seconds / max(reports, 1) * 1e6, 2),
        "missed": missed,
    }
    print(json.dumps(document, indent=2))


def _print_table(scores: Scores) -> None:
    header = (
        "failures",
        "recall",
        "chance",
        "precision",
        "lead h",
        "of poss.",
        "false/a",
        "parts",
        "notices/a",
    )
    width = max(map(len, [*scores.triggers, "the set"]))
    print(" " * width, *(f"{name:>9}" for name in header))
    for name, score in [*scores.triggers.items(), ("the set", scores.whole)]:
        values = (
            score.failures,
            score.recall,
            score.recall_by_chance,
            score.precision,
            score.lead_h,
            score.lead_share,
            score.false_per_year,
            score.parts_right,
            score.notices_per_year,
        )
        print(f"{name:{width}}", *(f"{_text(value):>9}" for value in values))
    print(f"{scores.whole.instrument_years:g} instrument-years")


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _years(text: str) -> float:
    try:
        years = float(text)
    except ValueError:
        years = 0
    if not 1 / DAYS <= years <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of years from {1 / DAYS:.3f} to 10,000")
    return years


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1")
    return int(text)
