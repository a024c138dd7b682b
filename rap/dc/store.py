"""The data center's database for verbs of `rap dc`. Its errors and those of the configuration become WrongInput."""

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
def open_store(file: Path, application: str = "") -> Iterator[tuple[Config, Store]]:
    """Open the store of a configuration for the block, in which `database_errors` applies.

    `application` is the connections' `application_name` in PostgreSQL (pg_stat_activity). Raises: WrongInput.
    """
    from datacenter.config import load_config
    from datacenter.store import shards
    from settings.problems import SettingsError

    with database_errors(file):
        config = load_config(file)
        try:
            urls = {name: _named(url, application) for name, url in config.store.shard_urls.items()}
            store = shards.open_store(_named(config.store.url, application), urls)
        except ValueError as error:
            raise SettingsError.at(file, "store.url", str(error)) from error
        with closing(store):
            store.check()
            yield config, store


def _named(url: str, application: str) -> str:
    """Return the URL of a PostgreSQL database with the name of an application."""
    from sqlalchemy.engine import make_url

    if not application or not url.startswith("postgresql"):
        return url
    named = make_url(url).update_query_dict({"application_name": application})
    return named.render_as_string(hide_password=False)
