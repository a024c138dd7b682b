"""`rap dc shard`: lists the number of boxes in each shard, and moves boxes to another shard."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rap.dc.store import open_store
from rap.outcome import OK, WrongInput
from rap.parser import Parser

if TYPE_CHECKING:
    from datacenter.store.shards import ShardedStore


def add_shard(parser: Parser) -> None:
    """Add the verbs."""
    shown = parser.add_command("list", "list the number of boxes in each database")
    shown.add_argument("--config", metavar="FILE", type=Path, required=True, help="TOML configuration")
    shown.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    shown.set_command(_list)
    move = parser.add_command("move", "move the reports of boxes to a shard, while no data center runs")
    move.add_argument("boxes", metavar="BOX", nargs="+", help="serial numbers of boxes")
    move.add_argument("--to", metavar="SHARD", required=True, help="name of a configured shard")
    move.add_argument("--config", metavar="FILE", type=Path, required=True, help="TOML configuration")
    move.set_command(_move)


@contextmanager
def _shards(file: Path) -> Iterator[tuple[ShardedStore, str]]:
    """Open the store of a configuration with shards; yield it with the application name of its connections."""
    from datacenter.store.shards import ShardedStore

    name = f"rap dc shard {os.getpid()}"
    with open_store(file, name) as (_, store):
        if not isinstance(store, ShardedStore):
            raise WrongInput(f"{file}: `store.shards`: there are none; add [[store.shards]]")
        yield store, name


def _list(arguments: argparse.Namespace) -> int:
    from datacenter.store.moving import placed_boxes

    with _shards(arguments.config) as (store, _):
        shards = placed_boxes(store)
    if arguments.json:
        print(json.dumps([shard._asdict() for shard in shards], indent=2))
        return OK
    for shard in shards:
        print(f"{shard.shard or 'main database'}: {shard.boxes} {'box' if shard.boxes == 1 else 'boxes'}")
    return OK


def _move(arguments: argparse.Namespace) -> int:
    from datacenter.store.moving import move_box, other_connections, unknown_boxes

    target, boxes = arguments.to, list(dict.fromkeys(arguments.boxes))
    with _shards(arguments.config) as (store, name):
        if target not in store.shards:
            raise WrongInput(
                f"there is no shard {target}: give one of {', '.join(store.shards)}, or add it to [[store.shards]]"
            )
        if unknown := unknown_boxes(store, boxes):
            raise WrongInput(f"there is no box {', '.join(unknown)}; nothing was moved")
        if others := other_connections(store, name):
            listed = "\n  ".join(others)
            raise WrongInput(
                f"other programs use the databases; stop all processes of the data center first:\n  {listed}"
            )
        for box in boxes:
            rows = move_box(store, box, target)
            print(f"{box}: {rows} rows moved to {target}" if rows else f"{box}: is in {target}")
    return OK
