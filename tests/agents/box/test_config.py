"""The configuration file: valid files, and the messages for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.box.configuration.config import load_config
from agents.box.configuration.defaults import INSTRUMENTS_MAX
from settings.problems import SettingsError
from settings.types import Endpoint, Proxy

PORT = """\
board = "rap-4"
[identity]
certificate = "box.crt"
key = "/etc/rap/box.key"
vendor_authority = "vendor.crt"
datacenter_authority = "public.crt"
[datacenter]
host = "ingest.example.com"
[[port]]
number = 1
listen = "10.77.1.1"
"""
INSTRUMENT = """
[[port.instrument]]
serial = "{}"
model = "chemistry-analyzer"
"""
SESSIONS = """
[sessions]
endpoint = "ingest.example.com:443"
keys = "offers.pem"
ways = ["code"]
"""
GOOD = PORT + INSTRUMENT.format("CHEM-1")


def load(folder: Path, text: str) -> SettingsError | None:
    file = folder / "box.toml"
    file.write_text(text)
    try:
        load_config(file)
    except SettingsError as error:
        assert str(error).startswith(str(file))
        return error
    return None


def test_a_valid_file_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "box.toml").write_text(GOOD + '[proxy]\nkind = "http"\nhost = "10.0.0.3"\nport = 3128\n')
    config = load_config(tmp_path / "box.toml")
    assert config.identity.client_identity().certificate == tmp_path / "box.crt"
    assert config.identity.client_identity().authorities == tmp_path / "public.crt"
    assert config.identity.server_identity().key == Path("/etc/rap/box.key")
    assert config.identity.server_identity().authorities == tmp_path / "vendor.crt"
    assert config.datacenter == Endpoint("ingest.example.com", 443)
    assert config.proxy == Proxy("http", "10.0.0.3", 3128)
    assert config.enrolled() == {"CHEM-1": 1}


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ('colour = "red"\n' + GOOD, "colour", "must be one of board, identity, datacenter"),
        (
            GOOD.replace("number = 1", 'number = 1\ncolor = "red"'),
            "port[0].color",
            "must be one of number, listen, instrument, tcp_port",
        ),
        (
            GOOD.replace("chemistry-analyzer", "chemistry-analyser"),
            "port[0].instrument[0].model",
            "did you mean chemistry-analyzer?",
        ),
        (GOOD.replace('board = "rap-4"\n', ""), "board", "is missing"),
        (
            GOOD.replace("number = 1", 'number = "1"'),
            "port[0].number",
            "must be a whole number, not a string",
        ),
        (GOOD.replace('com"', 'com"\nport = 70000'), "datacenter.port", "<= 65535"),
        (GOOD.replace("CHEM-1", "chem"), "port[0].instrument[0].serial", "write it like CHEM-0001"),
        (GOOD + '[proxy]\nkind = "ftp"\nhost = "x"\nport = 1\n', "proxy.kind", "one of http, socks5"),
        (GOOD + INSTRUMENT.format("CHEM-1"), "", "repeated: CHEM-1"),
        (GOOD + "[sending]\nlinger_s = -1\n", "sending.linger_s", ">= 0"),
        (GOOD + "[updates]\n", "updates.root", "missing"),
        (GOOD + SESSIONS.replace(":443", ""), "sessions.endpoint", "like ingest.example.com:443"),
        (GOOD + SESSIONS.replace(":443", ":99999"), "sessions.endpoint", "a port of 1 to 65535"),
        (
            GOOD + SESSIONS.replace("ingest.example", "ingest..example"),
            "sessions.endpoint",
            "empty label",
        ),
        (GOOD + SESSIONS.replace('"code"', ""), "sessions.ways", "length >= 1"),
        (
            GOOD + SESSIONS.replace('"code"', '"button"'),
            "sessions.ways[0]",
            "one of code, switch, security-key",
        ),
        (
            GOOD + SESSIONS.replace('"code"', '"code", "code"'),
            "sessions",
            "list each way once; repeated: code",
        ),
        (
            GOOD + SESSIONS.replace('"code"', '"security-key"'),
            "sessions",
            "security-key needs `page_name` and at least one [[sessions.security_key]]",
        ),
        (GOOD + SESSIONS + 'page_name = "10.77.1.1"\n', "sessions", "10.77.1.1 is an address; browsers use"),
        (
            GOOD + SESSIONS + '[[sessions.security_key]]\nid = "a"\npublic_key = "x"\n',
            "sessions.security_key[0].id",
            "",
        ),
        (
            GOOD + SESSIONS + 'staff = "10.99.0.1/29"\n',
            "sessions",
            "such as 10.99.0.2/29; the first address is the box's",
        ),
        (GOOD + SESSIONS + 'staff = "10.99.0.2"\n', "sessions", "is not an address with its network"),
        ("board = \n", "", "is not TOML"),
    ],
)
def test_a_wrong_file_is_reported_with_its_key_and_a_correction(
    tmp_path: Path, text: str, key: str, message: str
) -> None:
    error = load(tmp_path, text)
    assert error is not None
    assert error.problems[0].key == key
    assert message in error.problems[0].message


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load_config(tmp_path / "box.toml")


def test_the_number_of_instruments_is_limited(tmp_path: Path) -> None:
    def with_instruments(count: int) -> str:
        return PORT + "".join(INSTRUMENT.format(f"CHEM-{n}") for n in range(count))

    assert load(tmp_path, with_instruments(INSTRUMENTS_MAX)) is None
    error = load(tmp_path, with_instruments(INSTRUMENTS_MAX + 1))
    assert error is not None
    assert f"at most {INSTRUMENTS_MAX}" in error.problems[0].message


def test_mistakes_of_form_do_not_hide_other_mistakes(tmp_path: Path) -> None:
    text = 'colour = "red"\n' + GOOD.replace('"10.77.1.1"', '"224.0.0.1"') + INSTRUMENT.format("CHEM 2")
    error = load(tmp_path, text.replace('model = "chemistry-analyzer"', 'model = "chemistry-analyser"'))
    assert error is not None
    assert [problem.key for problem in error.problems] == [
        "colour",
        "port[0].instrument[1].serial",
        "port[0].listen",
        "port[0].instrument[0].model",
        "port[0].instrument[1].model",
    ]
