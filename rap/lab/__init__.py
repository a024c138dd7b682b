"""`rap lab`: simulated laboratories."""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rap.outcome import FAILED, OK, CommandError, WrongInput
from rap.parser import Parser, byte_count

if TYPE_CHECKING:
    from sim.lab.labfile import Lab
    from sim.verdict.result import Result
    from sim.worlds.image.world import ImageSettings


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap lab`."""
    list_ = parser.add_command("list", "list the lab files of a directory")
    list_.add_argument(
        "folder", metavar="DIR", type=Path, nargs="?", default=Path("labs"), help="default: labs"
    )
    list_.set_command(_list)
    check = parser.add_command("check", "check a lab file without running it")
    check.add_argument("file", metavar="FILE", type=Path)
    check.set_command(_check)
    run = parser.add_command("run", "run a lab and check its expectations")
    run.add_argument("file", metavar="FILE", type=Path)
    run.add_argument(
        "--world", choices=("virtual", "kernel", "image"), default="virtual", help="default: virtual"
    )
    add_image_options(run)
    run.add_argument("--seed", type=seed, metavar="N", help="default: the lab file's")
    run.add_argument(
        "--report",
        metavar="DIR",
        type=Path,
        help="write report.html, junit.xml and result.json to this directory",
    )
    run.set_command(_run)
    for verb in (list_, check, run):
        verb.add_argument("--json", action="store_true", help="one JSON document on standard output")
    from rap.lab import control, live  # imported here because they import this module

    live.add_verbs(parser)
    control.add_verbs(parser)


def _list(arguments: argparse.Namespace) -> int:
    from sim.lab.labfile import lab_paths

    paths = lab_paths(arguments.folder)
    if not paths:
        raise WrongInput(
            f"{arguments.folder}: contains no lab file (*.toml); give the directory of the lab files"
        )
    labs, wrong = [], []
    for path in paths:
        try:
            labs.append(load(path))
        except WrongInput as error:
            wrong.append(str(error))
    if wrong:
        raise WrongInput("\n".join(wrong))
    if arguments.json:
        print_json([_summary(lab) for lab in labs])
        return OK
    width = max(len(str(path)) for path in paths)
    for lab in labs:
        failing = " (meant to fail)" if lab.about.meant_to_fail else ""
        print(f"{lab.path!s:{width}}  {lab.about.description or lab.name}{failing}")
    return OK


def _check(arguments: argparse.Namespace) -> int:
    from sim.verdict.precheck import unmeasurable_expectations

    lab = load(arguments.file)
    summary = _summary(lab)
    problems = unmeasurable_expectations(lab)
    if arguments.json:
        print_json(summary | {"problems": problems})
    elif problems:
        print("\n".join(f"{lab.path}: {problem}" for problem in problems))
    else:
        print(f"{lab.path}: OK ({lab.name}: {summary['duration']} on a {lab.board.name}", end="")
        print(f", instruments: {summary['instruments']}, events: {summary['events']})")
    return FAILED if problems else OK


def _run(arguments: argparse.Namespace) -> int:
    lab = load(arguments.file)
    if arguments.report is not None:
        make_folder(arguments.report)
    result = _run_lab(lab, arguments)
    return show_result(result, arguments.report, json=arguments.json)


_IMAGE_OPTIONS: Final = ("key", "disk_bytes", "firmware", "start_seconds")


def add_image_options(parser: Parser) -> None:
    """Add the options of the image world to a verb."""
    image = parser.add_argument_group("with --world image")
    image.add_argument("--image", metavar="FILE", type=Path, help="signed image: ….raw or ….raw.zst")
    image.add_argument(
        "--key",
        metavar="FILE",
        type=Path,
        help="public key that verifies the image's signature; default: /etc/rap/image-signing.pub",
    )
    image.add_argument(
        "--disk-bytes",
        metavar="N",
        type=byte_count,
        help="size of the box's disk; default: that of the image",
    )
    image.add_argument(
        "--firmware", choices=("bios", "uefi"), help="firmware of the box's machine; default: bios"
    )
    image.add_argument(
        "--start-seconds", metavar="N", type=seconds, help="time limit of a start of the box; default: 420"
    )


def image_settings(lab: Lab, arguments: argparse.Namespace) -> ImageSettings | None:
    """Return the checked settings of the image world, or None for another world. Raises: CommandError."""
    options = {name: getattr(arguments, name) for name in _IMAGE_OPTIONS}
    if arguments.world != "image":
        if arguments.image or any(options.values()):
            raise WrongInput("--image and the options of the image world require --world image")
        return None
    if arguments.image is None:
        raise WrongInput("--world image requires --image FILE: `rap image build --key PRIVATE` creates one")
    from rap.lab.live import translate_errors

    with translate_errors():
        from sim.worlds.image import run as image

        return image.image_settings(
            lab, arguments.image, **{name: value for name, value in options.items() if value}
        )


def _run_lab(lab: Lab, arguments: argparse.Namespace) -> Result:
    from rich.console import Console

    from rap.lab.live import translate_errors
    from sim.engine.stalls import Stalled
    from sim.report.terminal import RunProgress
    from sim.worlds import run_lab

    settings = image_settings(lab, arguments)
    errors = nullcontext() if arguments.world == "virtual" else translate_errors()
    with errors, RunProgress(Console(stderr=True), lab.name, lab.about.duration) as progress:
        try:
            if settings is not None:
                from sim.worlds.image.run import run_image_lab

                return run_image_lab(lab, settings, arguments.seed, progress.update)
            return run_lab(lab, world=arguments.world, seed=arguments.seed, progress=progress.update)
        except Stalled as error:
            raise CommandError(f"{lab.path}: {error}") from error


def show_result(result: Result, report: Path | None, *, json: bool) -> int:
    """Print the result of a run, write its report if `report` is given, and return the exit status."""
    import msgspec

    from sim.engine.commit import commit

    result = msgspec.structs.replace(result, commit=commit())
    if report is not None:
        from sim.report import write_report

        page = write_report(result, report).page
    if json:
        from sim.verdict.result import to_json

        print(to_json(result), end="")
    else:
        from rich.console import Console

        from sim.report.terminal import print_result

        print_result(result, Console(highlight=False))
        if report is not None:
            print(f"Report\n  {page}")
    return OK if result.verdict == "pass" else FAILED


def load(path: Path) -> Lab:
    """Load a lab file. Raises: WrongInput."""
    from settings.problems import SettingsError
    from sim.lab.labfile import load_lab

    try:
        return load_lab(path)
    except SettingsError as error:
        raise WrongInput(str(error)) from error


def _summary(lab: Lab) -> dict[str, Any]:
    from sim.units import format_duration

    return {
        "file": str(lab.path),
        "lab": lab.name,
        "description": lab.about.description,
        "duration": format_duration(lab.about.duration),
        "board": lab.board.name,
        "instruments": len(lab.instruments),
        "events": len(lab.events),
        "meant_to_fail": lab.about.meant_to_fail,
    }


def make_folder(folder: Path) -> None:
    """Create the report directory, before the run. Raises: WrongInput."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongInput(f"--report {folder}: {error.strerror}; give a writable directory") from error


def seed(given: str) -> int:
    """Parse a seed from the command line."""
    if not given.isdecimal() or int(given) >= 2**63:
        raise argparse.ArgumentTypeError(f"{given!r}: give a whole number from 0 to 2^63-1")
    return int(given)


def seconds(given: str) -> float:
    """Parse a number of seconds from the command line."""
    with suppress(ValueError):
        if 0 < float(given) < float("inf"):
            return float(given)
    raise argparse.ArgumentTypeError(f"{given!r}: give a number of seconds greater than 0")


def print_json(document: object) -> None:
    """Print a document as JSON on standard output."""
    print(json.dumps(document, indent=2, ensure_ascii=False))
