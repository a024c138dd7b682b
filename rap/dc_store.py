"""The data center's database for verbs of `rap dc`. Errors of it and of the configuration are wrong input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rap.outcome import WrongInput

if TYPE_CHECKING:
    from datacenter.config import Config
    from datacenter.store.store import Store


@contextmanager
def database_errors(file: Path) -> Iterator[None]:
    """Turn SettingsError and StoreError of the block into WrongInput; `file` is the configuration."""
    from datacenter.store.errors import StoreError
    from settings.problems import SettingsError

    try:
        yield
    except SettingsError as error:
        raise WrongInput(str(error)) from error
    except StoreError as error:
        raise WrongInput(f"{file}: `store.url`: the database is unusable: {error}") from error


@contextmanager
def open_store(file: Path) -> Iterator[tuple[Config, Store]]:
    """Open the store of a configuration for the block, in which `database_errors` applies. Raises: WrongInput."""
    from datacenter.config import load_config
    from datacenter.store import shards
    from settings.problems import SettingsError

    with database_errors(file):
        config = load_config(file)
        try:
            store = shards.open_store(config.store.url, config.store.shard_urls)
        except ValueError as error:
            raise SettingsError.at(file, "store.url", str(error)) from error
        with closing(store):
            store.check()
            yield config, store
