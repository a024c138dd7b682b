"""Entry point of `rap`: finds the nouns, runs the command, and turns every ending into an exit status.

A noun is a module of this package with a SUMMARY and an `add_verbs`. It imports what its commands need when they
run, so that `rap --help` is immediate.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

import rap
from rap.extras import missing_extra
from rap.outcome import BUG, HOLDS, CommandError
from rap.parser import Parser

_NOUNS = ("box", "dc", "flash", "fw", "image", "lab", "pki")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `rap` with these arguments, the process's own by default; the result is the exit status."""
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
        # the reader has what it wanted; Python would complain once more while it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return HOLDS
    except ModuleNotFoundError as error:
        lacks = missing_extra(error, _noun(argv))
        if lacks is None:
            return _report_bug()
        print(f"rap: {lacks}", file=sys.stderr)
        return lacks.status
    except Exception:
        return _report_bug()
    return status


def _noun(argv: Sequence[str] | None) -> str:
    words = sys.argv[1:] if argv is None else argv
    return next((word for word in words if not word.startswith("-")), "")


def _report_bug() -> int:
    """Print the exception that is being handled; the result is the exit status."""
    traceback.print_exc()
    print("rap: this is a bug in rap itself; please report it with the lines above", file=sys.stderr)
    return BUG


def make_parser() -> Parser:
    """The whole grammar."""
    parser = Parser(
        prog="rap",
        description="Remote Application Processor box: simulate it, run it, look after it.",
        epilog="Exit status: 0 it holds; 1 an expectation failed; 2 wrong input; 3 the machine lacks something.",
    )
    parser.add_argument("--version", action="version", version=f"rap {rap.VERSION}")
    for name in _NOUNS:
        if find_spec(f"rap.{name}") is None:
            continue  # a package without the simulator is shipped without `lab`
        noun = import_module(f"rap.{name}")
        noun.add_verbs(parser.word(name, noun.SUMMARY))
    return parser


if __name__ == "__main__":
    sys.exit(main())
