"""`rap box`: the box program on real hardware."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rap.outcome import HOLDS, MachineLacks, WrongInput
from rap.parser import Parser

SUMMARY = "the box program on real hardware"


def add_verbs(parser: Parser) -> None:
    """The verbs of `rap box`."""
    run = parser.word("run", "take, keep and forward reports until SIGTERM")
    run.add_argument("--config", metavar="FILE", type=Path, required=True, help="TOML configuration")
    run.add_argument("--check", action="store_true", help="only say whether the configuration is right")
    run.does(_run)


def _run(arguments: argparse.Namespace) -> int:
    from agents.config import ConfigError
    from agents.main import check_box, run_box
    from agents.spool.terms import SpoolError
    from hal.disk import DiskError

    try:
        if arguments.check:
            check_box(arguments.config)
            print(f"{arguments.config}: right")
        else:
            run_box(arguments.config, _say_served)
    except ConfigError as error:
        raise WrongInput(str(error)) from error
    except (DiskError, SpoolError) as error:
        raise MachineLacks(
            f"{arguments.config}: spool.directory: the disk cannot be used: {error}"
        ) from error
    return HOLDS


def _say_served(port: int, tcp_port: int) -> None:
    print(f"rap: port {port} is served on TCP port {tcp_port}", file=sys.stderr)
