"""`rap image check`: what was built, judged by the STIGs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rap.outcome import FAILED, HOLDS, MachineLacks, WrongInput
from rap.parser import Parser


def add_check(parser: Parser) -> None:
    """The verb and its options."""
    check = parser.word("check", "judge a system's tree or image by the STIG, or the local page's server")
    check.add_argument(
        "tree", metavar="TREE_OR_IMAGE", type=Path, nargs="?", help="a folder, or a disk image"
    )
    check.add_argument(
        "--content", metavar="FILE", type=Path, help="SCAP data stream; default: the installed one"
    )
    check.add_argument(
        "--stand-in", action="store_true", help="leave out what a stand-in's packages cannot satisfy"
    )
    check.add_argument("--exceptions", metavar="FILE", type=Path, help="other reasons than the box's own")
    check.add_argument("--report", metavar="FILE", type=Path, help="write OpenSCAP's report, HTML")
    check.add_argument("--arf", metavar="FILE", type=Path, help="write OpenSCAP's results, ARF")
    check.add_argument("--json", action="store_true", help="one JSON document on standard output")
    check.does(_check)


def _check(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from imaging.check.content import usual_content
    from imaging.check.openscap import Wanted, scan
    from imaging.check.reasons import EXCEPTIONS, judge, load_exceptions, load_left_out
    from imaging.check.show import as_document, show
    from imaging.check.terms import CheckLacks, WrongCheck
    from imaging.check.tree import tree_of

    if arguments.tree is None:
        raise WrongInput("give a system's folder, or an image of `rap image build`")
    try:
        exceptions = load_exceptions(arguments.exceptions or EXCEPTIONS)
        left_out = load_left_out(image=arguments.tree.is_file(), stand_in=arguments.stand_in)
        with tree_of(arguments.tree) as tree:
            content = arguments.content or usual_content(tree)
            asked = scan(tree, content, Wanted(arguments.report, arguments.arf))
    except WrongCheck as error:
        raise WrongInput(str(error)) from error
    except CheckLacks as error:
        raise MachineLacks(str(error)) from error
    judgement = judge(asked, exceptions, left_out)
    if arguments.json:
        print(json.dumps(as_document(judgement), indent=1, ensure_ascii=False))
    else:
        show(judgement, Console())
    return HOLDS if judgement.holds else FAILED
