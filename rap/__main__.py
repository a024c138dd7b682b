"""Entry point of `rap`: parses the command line, executes the command and maps its result to an exit status.

Each noun is a module of this package with a function `add_verbs`. A noun is imported only for its own commands, and
imports what a command needs only when it executes that command, so that each starts quickly.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import rap
from rap.extras import missing_extra
from rap.outcome import BUG, OK, CommandError
from rap.parser import Parser

_NOUNS = {
    "access": "access control of the data center: policies and their proofs",
    "box": "the box program on real hardware",
    "dc": "the data center that stores the reports",
    "flash": "disks of boxes: list, write and verify them",
    "fw": "the box's firewall",
    "image": "images of the box: kickstarts, the package, disk images, checks, releases",
    "lab": "simulated laboratories: list, check, run; up, shell, link, fault, capture, watch, down",
    "pki": "test certificates from a CA in a directory",
    "profile": "instrument profiles: what each model may report",
    "session": "remote sessions: transition table, exploration, proof from audit files",
    "trigger": "triggers: conditions over reports that raise alerts",
    "trust": "papers for a hospital's IT, with the evidence of each statement",
}
"""The summary of each noun."""


def main(argv: Sequence[str] | None = None) -> int:
    """Execute `rap` with `argv`, by default the process's arguments, and return the exit status."""
    try:
        arguments = make_parser().parse_args(argv)
        status: int = arguments.command(arguments)
        sys.stdout.flush()
    except CommandError as error:
        print(f"rap: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader has closed the pipe; prevent another error when Python flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except ModuleNotFoundError as error:
        missing = missing_extra(error, _noun(argv))
        if missing is None:
            return _report_bug()
        print(f"rap: {missing}", file=sys.stderr)
        return missing.status
    except Exception:
        return _report_bug()
    return status


def _noun(argv: Sequence[str] | None) -> str:
    words = sys.argv[1:] if argv is None else argv
    return next((word for word in words if not word.startswith("-")), "")


def _report_bug() -> int:
    """Print the exception being handled, and return the exit status."""
    traceback.print_exc()
    print("rap: internal error; please report it with the lines above", file=sys.stderr)
    return BUG


def make_parser() -> Parser:
    """Return the parser with all nouns; a noun's verbs are added when it is parsed."""
    parser = Parser(
        prog="rap",
        description="Remote Application Processor box: simulate, run and maintain it.",
        epilog="Exit status: 0 success; 1 a check failed; 2 wrong input; 3 the machine lacks something.",
    )
    parser.add_argument("--version", action="version", version=f"rap {rap.VERSION}")
    for name, summary in _NOUNS.items():
        if find_spec(f"rap.{name}") is None:
            continue  # the box's package is shipped without the simulator and `lab`
        parser.add_command(name, summary, partial(_add_verbs, name))
    return parser


def _add_verbs(noun: str, parser: Parser) -> None:
    import_module(f"rap.{noun}").add_verbs(parser)


if __name__ == "__main__":
    sys.exit(main())
