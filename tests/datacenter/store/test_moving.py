"""The reports of a box move to another shard without loss, also after an interruption at any step."""

from __future__ import annotations

import gc
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from datacenter.evaluation.triggerset import TriggerSet
from datacenter.history.archive import history
from datacenter.store import moving, queries
from datacenter.store.errors import StoreError
from datacenter.store.moving import Placed, move_box, placed_boxes
from datacenter.store.shards import choose_shard, open_store
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import boxes, evaluated
from rap.__main__ import main
from tests.support.datacenter.evaluation.base import BOXES, DAY, READING, Fleet
from tests.support.datacenter.evaluation.triggers import trigger
from tests.support.datacenter.programs import configure_boxes
from tests.support.datacenter.store.batches import alert, batch
from tests.support.datacenter.store.sharded import NAMES, open_sharded

OTHER, BOX = (next(box for box in BOXES if choose_shard(box, NAMES) == name) for name in NAMES)
"""A box in shard a, and one in shard b."""
TRIGGERS = TriggerSet([trigger(f"{READING} > 80", name="high")])
END_MS = (DAY + 20) * DAY_MS


def fill(store: Store) -> Fleet:
    """Store reports of two boxes: 20 on each of two days, which are archived, and 5 on the third, which are not."""
    fleet = Fleet(store, TRIGGERS)
    for box in (BOX, OTHER):
        for day in range(2):
            fleet.report(box, day, 20)
    fleet.evaluate()
    fleet.count_archived()
    for box in (BOX, OTHER):
        fleet.report(box, 2, 5)
    fleet.evaluate()
    return fleet


def rows(store: Store, box: str) -> dict[str, list[Any]]:
    """Return the rows of a box in the tables of a shard, and the number of its rows in `boxes`."""
    tables: dict[str, list[Any]] = {}
    for table in (*moving.REPORTS, evaluated):
        query = select(*table.c).where(table.c.box == box).order_by(*table.primary_key.columns)
        tables[table.name] = [tuple(row) for row in store.read(query)]
    query = select(func.count()).where(boxes.c.serial == box)
    tables["boxes"] = [tuple(row) for row in store.read(query)]
    return tables


def is_empty(tables: dict[str, list[Any]]) -> bool:
    return tables.pop("boxes") == [(0,)] and not any(tables.values())


def shown(store: Store, fleet: Fleet) -> list[Any]:
    """Return what readers of the store show of the box: counts and history."""
    name = fleet.instrument(BOX)
    return [
        queries.counts(store),
        history(store, BOX, name, 0, END_MS).readings[READING].values.tolist(),
    ]


def test_a_box_moves_with_all_its_rows(urls: list[str]) -> None:
    with closing(open_sharded(urls)) as store:
        fleet = fill(store)
        _, a, b = store.parts
        before, others, was = rows(b, BOX), rows(a, OTHER), shown(store, fleet)
        in_a = sum(choose_shard(box, NAMES) == "a" for box in BOXES)
        assert before["records"] and before["chunks"] and before["coverage"] and before["evaluated"]
        assert move_box(store, BOX, "a") == sum(len(before[table.name]) for table in moving.REPORTS)
        assert rows(a, BOX) == before
        assert rows(a, OTHER) == others
        assert is_empty(rows(b, BOX))
        assert shown(store, fleet) == was
        assert placed_boxes(store) == [
            Placed(None, 0),
            Placed("a", in_a + 1),
            Placed("b", len(BOXES) - in_a - 1),
        ]
        assert move_box(store, BOX, "a") == 0
    with closing(open_sharded(urls)) as store:
        store.check()
        fleet.store = store
        fleet.report(BOX, 3, 5)
        fleet.evaluate()
        assert is_empty(rows(store.parts[2], BOX))


def test_a_box_moves_from_the_main_database(urls: list[str]) -> None:
    with closing(open_store(urls[0], {})) as store:
        fleet = fill(store)
        before, was = rows(store, BOX), shown(store, fleet)
    with closing(open_sharded(urls)) as store:
        move_box(store, BOX, "b")
        assert rows(store.parts[2], BOX) == before
        left = rows(store, BOX)
        assert left.pop("evaluated") == before["evaluated"] and left.pop("boxes") == [(1,)]
        assert not any(left.values())
        assert shown(store, fleet) == was


@pytest.mark.parametrize("steps", (0, 2, 4))
def test_an_interrupted_move_is_completed(
    urls: list[str], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_sharded(urls)) as store:
        fleet = fill(store)
        _, a, b = store.parts
        before, was = rows(b, BOX), shown(store, fleet)
        with monkeypatch.context() as failing:
            _fail_after(failing, steps)
            with pytest.raises(StoreError, match="interrupted"):
                move_box(store, BOX, "a")
    gc.collect()  # the traceback of the error is a part of a cycle, and holds a connection
    with closing(open_sharded(urls)) as store:
        assert shown(store, fleet) == was
        move_box(store, BOX, "a")
        _, a, b = store.parts
        assert rows(a, BOX) == before
        assert is_empty(rows(b, BOX))
        assert shown(store, fleet) == was


def _fail_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """Fail after `steps` copied tables or, with 4, during the deletion of the old rows."""
    names, done = ("_copy_table", "_delete"), {"_copy_table": 0, "_delete": 0}
    limits = {"_copy_table": steps if steps < 4 else 99, "_delete": 99 if steps < 4 else 2}
    for name in names:
        original = getattr(moving, name)

        def step(*values: Any, name: str = name, original: Any = original, **named: Any) -> Any:
            if done[name] == limits[name]:
                raise StoreError("interrupted")
            done[name] += 1
            return original(*values, **named)

        patch.setattr(moving, name, step)


def test_the_command_moves_boxes_and_refuses_impossible_moves(
    urls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, _ = configure_boxes(tmp_path, urls[0], [BOX, OTHER])
    arguments = ["--config", str(file)]
    move = ["dc", "shard", "move", *arguments, BOX, "--to"]
    assert main([*move, "a"]) == 2
    assert "`store.shards`: there are none" in capsys.readouterr().err
    for name, url in zip(NAMES, urls[1:], strict=True):
        file.write_text(f'{file.read_text()}\n[[store.shards]]\nname = "{name}"\nurl = "{url}"\n')
    with closing(open_sharded(urls)) as store:
        store.authorize([BOX, OTHER], 0)
        store.ingest(BOX, batch(alert(1)), 1)
        assert main([*move, "a"]) == 2
        problem = capsys.readouterr().err
        assert "stop all processes of the data center first" in problem
        assert "main database: process" in problem and "shard b: process" in problem
    assert main([*move, "c"]) == 2
    assert "there is no shard c: give one of a, b" in capsys.readouterr().err
    assert main(["dc", "shard", "move", BOX, "RAP-0009", "--to", "a", *arguments]) == 2
    assert "there is no box RAP-0009; nothing was moved" in capsys.readouterr().err
    assert main(["dc", "shard", "list", *arguments]) == 0
    assert capsys.readouterr().out == "main database: 0 boxes\na: 1 box\nb: 1 box\n"
    assert main([*move, "a"]) == 0
    assert f"{BOX}: 3 rows moved to a" in capsys.readouterr().out
    assert main([*move, "a"]) == 0
    assert f"{BOX}: is in a" in capsys.readouterr().out
    assert main(["dc", "shard", "list", "--json", *arguments]) == 0
    assert '"shard": "b",\n    "boxes": 0' in capsys.readouterr().out
