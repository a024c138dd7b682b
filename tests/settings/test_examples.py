"""The example at the top of each settings module is a valid file that contains every key."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec import Struct
from msgspec import inspect as types

import agents.box.configuration.config
import datacenter.config
import imaging.kickstart.site
import netfw.policy.policyfile
from settings.toml import loads

FILES: list[tuple[ModuleType, type[Struct]]] = [
    (agents.box.configuration.config, agents.box.configuration.config.BoxConfig),
    (datacenter.config, datacenter.config.Config),
    (netfw.policy.policyfile, netfw.policy.policyfile.PolicyFile),
    (imaging.kickstart.site, imaging.kickstart.site.Site),
]
IN_ITS_OWN_MODULE = {"adapted"}
"""Tables whose keys are described by a separate module, which examples refer to: `settings.adapted`."""
LINE_OF_TOML = re.compile(r'\[|"?[\w.]+"? = ')


def example(module: ModuleType) -> str:
    lines = inspect.cleandoc(module.__doc__ or "").splitlines()
    return "\n".join(stripped for line in lines if LINE_OF_TOML.match(stripped := line.strip()))


def keys_of(kind: types.Type, prefix: str = "") -> Iterator[str]:
    """Yield the keys of a table and of the tables in it, as in `proxy.host`."""
    match kind:
        case types.StructType(fields=fields):
            for field in fields:
                if field.encode_name in IN_ITS_OWN_MODULE:
                    continue
                yield f"{prefix}{field.encode_name}"
                yield from keys_of(field.type, f"{prefix}{field.encode_name}.")
        case types.UnionType(types=members):
            for member in members:
                yield from keys_of(member, prefix)
        case types.ListType(item_type=item):
            yield from keys_of(item, prefix)


def keys_in(table: Any, prefix: str = "") -> Iterator[str]:
    for value in table if isinstance(table, list) else [table]:
        for key, inner in value.items() if isinstance(value, dict) else ():
            yield f"{prefix}{key}"
            yield from keys_in(inner, f"{prefix}{key}.")


@pytest.mark.parametrize(("module", "table"), FILES, ids=lambda parameter: parameter.__name__)
def test_the_example_is_a_valid_file_with_every_key(module: ModuleType, table: type[Struct]) -> None:
    text = example(module)
    loads(text, Path("example.toml"), table)
    assert set(keys_of(types.type_info(table))) - set(keys_in(tomllib.loads(text))) == set()
