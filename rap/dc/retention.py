"""`rap dc retention`: deletes data after its retention time, or shows what it would delete."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from rap.dc.store import open_store
from rap.outcome import OK
from rap.parser import Parser
from rap.utc import utc_day


def add_retention(parser: Parser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("--config", metavar="FILE", type=Path, required=True, help="TOML configuration")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be deleted")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.set_command(_retention)


def _retention(arguments: argparse.Namespace) -> int:
    from datacenter.retention import KINDS, delete_piece, find_expired

    with open_store(arguments.config) as (config, store):
        now_ms = time.time_ns() // 1_000_000
        expired = find_expired(store, config.store.retention, now_ms)
        if not arguments.dry_run:
            for expiry in expired:
                while delete_piece(store, expiry.kind, expiry.days, now_ms):
                    pass
            for part in store.parts:
                part.drop_empty_partitions(now_ms)
    if arguments.json:
        print(
            json.dumps(
                {"dry_run": arguments.dry_run, "kinds": [expiry._asdict() for expiry in expired]}, indent=2
            )
        )
        return OK
    for expiry in expired:
        since = f", the oldest from {utc_day(expiry.oldest_ms)}" if expiry.oldest_ms is not None else ""
        done = "would be deleted" if arguments.dry_run else "deleted"
        print(f"{expiry.kind}: kept {expiry.days} days; {expiry.rows} rows {done}{since}")
    limited = {expiry.kind for expiry in expired}
    print(f"kept without limit: {', '.join([*(kind for kind in KINDS if kind not in limited), 'audit'])}")
    return OK
