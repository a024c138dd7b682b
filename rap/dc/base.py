"""`rap dc base`: the data of the installed base that may leave a region, and percentiles of several regions."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from rap.dc.store import open_store
from rap.outcome import OK, WrongInput
from rap.parser import Parser

DAYS: Final = 90
PERCENTILES: Final = (5, 25, 50, 75, 95)


def add_base(parser: Parser) -> None:
    """Add the verbs."""
    export = parser.add_command(
        "export", "print the histogram of a reading that may leave the region, as JSON"
    )
    export.add_argument("--config", metavar="FILE", type=Path, required=True, help="TOML configuration")
    export.add_argument("--model", required=True, help="instrument model")
    export.add_argument("--reading", required=True, help="a channel of its profile")
    export.set_command(_export)
    merge = parser.add_command("merge", "print the percentiles of several regions together")
    merge.add_argument("files", metavar="FILE", nargs="+", type=Path, help="output of `rap dc base export`")
    merge.set_command(_merge)


def _export(arguments: argparse.Namespace) -> int:
    import msgspec

    from datacenter.access.vocabulary import EVERYWHERE
    from datacenter.base.federation import exportable
    from datacenter.base.percentiles import read_days
    from datacenter.store.tables.partitions import DAY_MS

    today = time.time_ns() // 1_000_000 // DAY_MS
    model, reading = arguments.model, arguments.reading
    with open_store(arguments.config) as (config, store), store.transaction() as connection:
        days = read_days(connection, model, reading, [EVERYWHERE], today - DAYS, today)
    exported = exportable(model, reading, days, config.base.export_instruments_min)
    sys.stdout.write(msgspec.json.encode(exported).decode() + "\n")
    return OK


def _merge(arguments: argparse.Namespace) -> int:
    import msgspec

    from datacenter.base.federation import RegionalBase, percentiles_of_regions

    try:
        regions = [msgspec.json.decode(file.read_bytes(), type=RegionalBase) for file in arguments.files]
        percentiles = percentiles_of_regions(regions, PERCENTILES)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise WrongInput(f"{error}; give files of `rap dc base export`") from error
    for percentile, (low, high) in zip(PERCENTILES, percentiles, strict=True):
        bounds = (
            f"{low}" if low == high else f"{'?' if low is None else low} to {'?' if high is None else high}"
        )
        print(f"{percentile} %: {bounds}")
    return OK
