"""`rap trust algorithms`: finds algorithms that FIPS 140-3 does not approve, in code, configuration and keys."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rap.outcome import FAILED, OK, WrongInput
from rap.parser import Parser


def add_verb(parser: Parser) -> None:
    """Add the verb."""
    verb = parser.add_command("algorithms", "find cryptographic algorithms that FIPS 140-3 does not approve")
    verb.add_argument(
        "paths", metavar="PATH", type=Path, nargs="+", help="a file, or a folder with its files"
    )
    verb.add_argument(
        "--exceptions",
        metavar="FILE",
        type=Path,
        help="intended uses with reasons, instead of those of the project",
    )
    verb.add_argument("--json", action="store_true", help="one JSON document on standard output")
    verb.set_command(_algorithms)


def _algorithms(arguments: argparse.Namespace) -> int:
    from settings.problems import SettingsError
    from trust.algorithms.scan import SHIPPED, scan

    for path in arguments.paths:
        if not path.exists():
            raise WrongInput(f"{path}: does not exist; give files or folders")
    try:
        findings, unused = scan(arguments.paths, arguments.exceptions or SHIPPED)
    except SettingsError as error:
        raise WrongInput(str(error)) from error
    if arguments.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
        return FAILED if findings else OK
    for finding in findings:
        print(finding)
    if arguments.exceptions:
        for row in unused:
            print(f"{arguments.exceptions}: the exception for {row.algorithm} in {row.file} matches nothing")
    print(f"{len(findings)} findings" if findings else "only approved algorithms")
    return FAILED if findings else OK
