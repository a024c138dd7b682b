"""Errors in a configuration file name the file, the key and a correction."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacenter.config import load_config, revocation_list
from settings.problems import SettingsError

GOOD = """
boxes = ["RAP-0001"]

[listen]
host = "127.0.0.1"
port = 8443

[tls]
certificate = "dc.crt"
key = "dc.key"
authorities = "vendor.crt"

[store]
url = "sqlite:///reports.db"
"""

PG_URL = 'url = "postgresql+psycopg://u@h/d"'
SHARD = f"[[store.shards]]\nname = 'a'\n{PG_URL}\n"
OTHER_SHARD = SHARD.replace("'a'", "'b'")
SESSIONS = "[sessions]\nkey = 'dc.key'\n"
OIDC = """
[access.oidc]
issuer = "https://id.example.com"
client_id = "rap"
url = "https://rap.example.com"
roles = "groups"
locations = "places"
[access.oidc.role]
staff = "viewer"
[access.oidc.location]
de = "country/DE"
[store]"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name in ("dc.crt", "dc.key", "vendor.crt"):
        (tmp_path / name).touch()
    (tmp_path / "dc.toml").write_text(GOOD)
    return tmp_path / "dc.toml"


def test_a_valid_file_is_loaded_and_its_paths_are_relative_to_it(file: Path) -> None:
    config = load_config(file)
    assert (config.boxes, config.listen.port) == (["RAP-0001"], 8443)
    assert config.tls.key == file.parent / "dc.key"


def test_with_a_provider_the_pages_need_no_sign_in_for_development(file: Path) -> None:
    file.write_text(GOOD.replace("[store]", f'[staff]\ndirectory = "dc.crt"\n{OIDC}'))
    config = load_config(file)
    assert config.access.oidc is not None
    assert (config.access.oidc.host, config.access.oidc.is_secure) == ("rap.example.com", True)


@pytest.mark.parametrize(
    ("right", "wrong", "parts"),
    [
        ("port = 8443", "port = 65536", ["listen.port: ", "<= 65535"]),
        ("port = 8443", 'prot = "8443"', ["listen.prot: unknown key", "one of host, port"]),
        ('boxes = ["RAP-0001"]', "", ["boxes: is missing; expected a list"]),
        ('"RAP-0001"', '"rap 1"', ["boxes[0]: ", "write it like"]),
        ('"RAP-0001"', "", ["boxes: ", "length >= 1"]),
        ('key = "dc.key"', "key = 1", ["tls.key: 1: must be a string"]),
        ('key = "dc.key"', 'key = "no.key"', ["tls.key: ", "no.key", "PEM"]),
        ('key = "dc.key"', 'key = "dc.key"\nrevocations = "no.crl"', ["tls.revocations: ", "no.crl", "PEM"]),
        (
            "[store]",
            '[access]\npolicies = "none"\n[store]',
            ["access.policies: ", "none is not a folder with policies"],
        ),
        ("[store]", "[access]\nview_minutes = 61\n[store]", ["access.view_minutes: ", "<= 60"]),
        ('boxes = ["RAP-0001"]', 'boxes = ["RAP-0001"]\nfleet = "no.toml"', ["fleet: ", "no.toml"]),
        (
            "[store]",
            '[notices]\ntargets = "no.toml"\n[store]',
            ["notices.targets: ", "no.toml", "give a file"],
        ),
        ("[store]", OIDC.replace("https://id", "http://id"), ["access.oidc.issuer: ", "https://"]),
        ("[store]", OIDC.replace("https://rap.example", "rap.example"), ["access.oidc.url: ", "https://"]),
        ("[store]", OIDC.replace('.com"', '.com/"'), ["access.oidc.url: ", "slash"]),
        ("[store]", OIDC.replace("viewer", "viewers"), ["access.oidc.role.staff: ", "viewer"]),
        ("[store]", OIDC.replace('roles = "groups"', ""), ["access.oidc.role: ", "give it"]),
        (
            "[store]",
            OIDC.replace('"rap"', '"rap"\nclient_secret = "no.secret"'),
            ["client_secret: ", "no.secret"],
        ),
        ("[store]", OIDC.replace("country/DE", "DE"), ["access.oidc.location.de: ", "is not a location"]),
        ("[store]", '[staff]\ndirectory = "dc.crt"\n[store]', ["staff.development: ", "[access.oidc]"]),
        ("[store]", f"{SESSIONS}folder = '.'\n[store]", ["sessions: needs [staff]"]),
        (
            "[store]",
            f"{SESSIONS}folder = '.'\n[store]",
            ["sessions.key: ", "private key of curve P-256", "openssl genpkey"],
        ),
        ("[store]", f'{SESSIONS}folder = "no"\n[store]', ["sessions.folder: ", "is not a folder"]),
        (
            "[store]",
            f'{SESSIONS}folder = "."\nstaff = "10.99.0.1/29"\n[store]',
            ["sessions: ", "10.99.0.2/29"],
        ),
        ("[store]", f'{SESSIONS}folder = "."\nstaff = "10.99.0.2/30"\n[store]', ["sessions: ", "/16 to /29"]),
        ("[store]", '[releases]\nfolder = "no"\n[store]', ["releases.folder: ", "rap image release create"]),
        ("[store]", '[log]\nformat = "jsn"\n[store]', ["log.format: ", "json"]),
        ("[store]", "[monitoring]\nport = 70000\n[store]", ["monitoring.port: ", "<= 65535"]),
        ("[store]", "[base]\nexport_instruments_min = 1\n[store]", ["base.export_instruments_min: ", ">= 2"]),
        ("[store]", "[store]\nrows_days = 0", ["store.rows_days: ", ">= 1"]),
        ("[store]", "[store]\nshards = [{ name = 'a', url = 'postgresql://h' }]", ["store", "SQLite"]),
        ('reports.db"', f'reports.db"\n{2 * SHARD}', ["store", "the same name"]),
        ('reports.db"', f'reports.db"\n{SHARD}{OTHER_SHARD}', ["store", "same URL"]),
        ("[store]", "[strore]", ["strore: unknown key; did you mean store?"]),
        ("[store]", "[store", ["line 13"]),
    ],
)
def test_wrong_settings_are_named(file: Path, right: str, wrong: str, parts: list[str]) -> None:
    assert right in GOOD
    file.write_text(GOOD.replace(right, wrong))
    with pytest.raises(SettingsError) as error:
        load_config(file)
    for part in (str(file), *parts):
        assert part in str(error.value)


def test_an_unusable_revocation_list_is_named(file: Path) -> None:
    (file.parent / "vendor.crl").touch()
    file.write_text(GOOD.replace('key = "dc.key"', 'key = "dc.key"\nrevocations = "vendor.crl"'))
    with pytest.raises(SettingsError, match=r"vendor\.crl: .*BEGIN X509 CRL"):
        revocation_list(load_config(file))


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: cannot be read: No such file"):
        load_config(tmp_path / "none.toml")
