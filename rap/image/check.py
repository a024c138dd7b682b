"""`rap image check`: checks a system or a web server configuration against the STIGs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rap.outcome import FAILED, OK, MachineLacks, WrongInput
from rap.parser import Parser, refuse_options

if TYPE_CHECKING:
    from imaging.check.types import Evaluation


def add_check(parser: Parser) -> None:
    """Add the verb and its options."""
    check = parser.add_command(
        "check", "check a system's tree or image, or a web server configuration, against the STIG"
    )
    check.add_argument(
        "tree", metavar="TREE_OR_IMAGE", type=Path, nargs="?", help="a directory or a disk image"
    )
    check.add_argument(
        "--content", metavar="FILE", type=Path, help="SCAP data stream; default: the installed one"
    )
    check.add_argument(
        "--profile",
        metavar="NAME",
        help='profile of the content, such as "cis" or "MAC-1_Classified"; default: stig',
    )
    check.add_argument(
        "--mock-repo",
        action="store_true",
        help="leave out rules that packages of the mock repository cannot pass",
    )
    check.add_argument("--stand-in", action="store_true", dest="mock_repo", help=argparse.SUPPRESS)
    check.add_argument("--exceptions", metavar="FILE", type=Path, help="default: the box's exceptions")
    check.add_argument("--report", metavar="FILE", type=Path, help="write the OpenSCAP report (HTML)")
    check.add_argument("--arf", metavar="FILE", type=Path, help="write the OpenSCAP results (ARF)")
    check.add_argument(
        "--httpd",
        metavar="CONF",
        type=Path,
        help="check this httpd configuration against the Apache STIG instead",
    )
    check.add_argument(
        "--httpd-program", metavar="FILE", default="", help="with --httpd; default: httpd or apache2"
    )
    check.add_argument("--json", action="store_true", help="one JSON document on standard output")
    check.set_command(_check)


def _check(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from imaging.check.show import as_document, show
    from imaging.check.types import InvalidCheckInput
    from imaging.programs import PrerequisiteMissing

    if (arguments.tree is None) == (arguments.httpd is None):
        raise WrongInput(
            "give either a system's directory or an image of `rap image build`, or --httpd and a configuration"
        )
    try:
        evaluation = _check_httpd(arguments) if arguments.httpd else _check_system(arguments)
    except InvalidCheckInput as error:
        raise WrongInput(str(error)) from error
    except PrerequisiteMissing as error:
        raise MachineLacks(str(error)) from error
    if arguments.json:
        print(json.dumps(as_document(evaluation), indent=1, ensure_ascii=False))
    else:
        show(evaluation, Console())
    return OK if evaluation.passed else FAILED


def _check_httpd(arguments: argparse.Namespace) -> Evaluation:
    from imaging.check.apache.evaluate import evaluate_server
    from imaging.check.apache.httpd import read_server

    refuse_options(
        arguments,
        "a system's directory or image",
        ("content", "profile", "mock_repo", "exceptions", "report", "arf"),
    )
    return evaluate_server(read_server(arguments.httpd, arguments.httpd_program))


def _check_system(arguments: argparse.Namespace) -> Evaluation:
    from imaging.check.openscap import ScanReports
    from imaging.check.reasons import load_exceptions
    from imaging.check.system import check_tree
    from imaging.check.tree import opened_tree

    refuse_options(arguments, "--httpd", ("httpd_program",))
    if arguments.exceptions:
        load_exceptions(arguments.exceptions)  # an error is reported before the image is extracted
    with opened_tree(arguments.tree) as tree:
        return check_tree(
            tree,
            is_image=arguments.tree.is_file(),
            content=arguments.content,
            profile=arguments.profile or "",
            exceptions=arguments.exceptions,
            mock_repo=arguments.mock_repo,
            reports=ScanReports(arguments.report, arguments.arf),
        )
