"""`rap dc`: the data center."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rap.outcome import HOLDS, WrongInput
from rap.parser import Parser

SUMMARY = "the data center that stores the reports"


def add_verbs(parser: Parser) -> None:
    """The verbs of `rap dc`."""
    serve = parser.word("serve", "take reports from boxes until SIGTERM")
    serve.add_argument("--config", metavar="FILE", type=Path, required=True, help="TOML configuration")
    serve.does(_serve)


def _serve(arguments: argparse.Namespace) -> int:
    import ssl

    from datacenter.config import ConfigError
    from datacenter.main import run_datacenter
    from datacenter.store import StoreError

    try:
        run_datacenter(arguments.config, lambda port: print(f"rap: ready on port {port}", file=sys.stderr))
    except ConfigError as error:
        raise WrongInput(str(error)) from error
    except StoreError as error:
        raise WrongInput(f"{arguments.config}: `store.url`: the database cannot be used: {error}") from error
    except (OSError, ssl.SSLError) as error:
        raise WrongInput(f"{arguments.config}: an address or PEM file cannot be used: {error}") from error
    return HOLDS
