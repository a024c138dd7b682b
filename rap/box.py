"""`rap box`: the box program on real hardware."""

from __future__ import annotations

import argparse
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
    import ssl

    from agents.config import ConfigError, load_config
    from agents.spool.terms import SpoolError
    from hal.board import BoardError, load_board
    from hal.disk import DiskError

    try:
        load_board(load_config(arguments.config).board)
        if arguments.check:
            print(f"{arguments.config}: right")
            return HOLDS
        from agents.main import run_box

        run_box(arguments.config)
    except (ConfigError, BoardError) as error:
        raise WrongInput(str(error)) from error
    except (DiskError, SpoolError) as error:
        raise MachineLacks(f"the disk under {arguments.config} cannot be used: {error}") from error
    except (OSError, ssl.SSLError) as error:
        raise WrongInput(
            f"{arguments.config}: an address, folder or PEM file cannot be used: {error}"
        ) from error
    return HOLDS
