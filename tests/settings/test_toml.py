"""Settings files: all problems are reported with their lines, and written files can be read back unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from settings.names import host_problem
from settings.problems import Problems, SettingsError, key_text, line_of, parse_key
from settings.toml import dumps, load, loads
from settings.types import Endpoint, Host, Proxy, Secret, Table, TcpPort

FILE = Path("site.toml")


class Reader(Table, frozen=True):
    host: Host
    colours: list[Literal["red", "green"]] = []
    login: Secret = ""


class House(Table, frozen=True):
    number: Annotated[int, Meta(ge=1, le=99)]
    reader: list[Reader] = []
    key: Path = Path("house.key")
    names: dict[Host, list[TcpPort]] = {}

    def __post_init__(self) -> None:
        if self.number == 13:
            raise ValueError("there is no number 13")


TEXT = """\
number = 7

[[reader]]  # the first
host = "a.example.com"
colours = [
    "red",
    "green",
]

[[reader]]
host = "b.example.com"

[names]
"a.example.com" = [443]
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        loads(text, FILE, House)
    return str(caught.value).splitlines()


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "house.toml").write_text('number = 7\nkey = "keys/front.key"\n')
    assert load(tmp_path / "house.toml", House).key == tmp_path / "keys/front.key"


def test_all_problems_are_reported_with_line_and_key() -> None:
    text = TEXT.replace("= 7", '= "7"').replace('"b.example', '"b..example').replace('"green"', '"blue"')
    assert problems(text.replace("443", "0, 70000")) == [
        'site.toml:1: number: "7": must be a whole number, not a string',
        'site.toml:5: reader[0].colours[1]: "blue": must be one of red, green',
        'site.toml:11: reader[1].host: "b..example.com": '
        "'b..example.com' has an empty label: it begins with a dot or has two dots in a row",
        'site.toml:14: names."a.example.com"[0]: 0: must be a whole number >= 1',
        'site.toml:14: names."a.example.com"[1]: 70000: must be a whole number <= 65535',
    ]


@pytest.mark.parametrize(
    ("valid", "invalid", "message"),
    [
        ("number = 7", "", "site.toml:1: number: is missing; expected a whole number"),
        ("number = 7", "number = 13", "site.toml: there is no number 13"),
        ("number =", "numbr =", "site.toml:1: numbr: unknown key; did you mean number?"),
        (
            'host = "b.example.com"',
            "",
            "site.toml:10: reader[1].host: is missing; expected a host name or IP address",
        ),
        ("[names]", "[names", "site.toml: is not TOML"),
    ],
)
def test_a_message_states_the_correction(valid: str, invalid: str, message: str) -> None:
    lines = problems(TEXT.replace(valid, invalid, 1))
    assert any(line.startswith(message) for line in lines), lines


def test_a_table_instead_of_an_array_of_tables_is_reported() -> None:
    text = TEXT.replace("[[reader]]  # the first\n", "[reader]\n").split("[[reader]]")[0]
    lines = problems(text)
    assert any(line.startswith("site.toml:3: reader: must be an array of tables") for line in lines), lines


def test_a_secret_is_never_in_a_message() -> None:
    [line] = problems(TEXT.replace('host = "b', 'login = "open\\u0007sesame"\nhost = "b'))
    assert "reader[1].login" in line
    assert "sesame" not in line


def test_an_error_found_after_reading_has_the_line_number(tmp_path: Path) -> None:
    file = tmp_path / "house.toml"
    file.write_text(TEXT)
    assert str(SettingsError.at(file, "reader[1].host", "is unknown")).endswith(
        "house.toml:11: reader[1].host: is unknown"
    )
    assert str(SettingsError.at(tmp_path / "none.toml", "a", "b")).endswith("none.toml: a: b")


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("number", 1),
        ("reader", 3),
        ("reader[0].host", 4),
        ("reader[0].colours[1]", 5),
        ("reader[1]", 10),
        ("reader[1].host", 11),
        ("reader[1].login", 10),
        ('names."a.example.com"[0]', 14),
        ("unknown.key", 1),
    ],
)
def test_the_line_of_a_key(key: str, line: int) -> None:
    assert line_of(TEXT, parse_key(key)) == line


def test_line_numbers_after_multi_line_values() -> None:
    text = 'a = """\n[b]\nc = 1\n"""\n[b]\nlist = [[1,\n 2], # ]\n [3]]\nc = 2\nd.e = 3\n'
    assert line_of(text, ("b",)) == 5
    assert line_of(text, ("b", "c")) == 9
    assert line_of(text, ("b", "d", "e")) == 10


@given(st.lists(st.one_of(st.text("ab.- ", min_size=1), st.integers(0, 99)), min_size=1, max_size=5))
def test_a_formatted_key_parses_to_the_same_key(parts: list[str | int]) -> None:
    key = ("k", *parts)
    assert parse_key(key_text(key)) == key


def test_a_written_table_reads_back_unchanged() -> None:
    house = loads(TEXT, FILE, House)
    assert loads(dumps(house), FILE, House) == house
    assert "login" not in dumps(house)
    assert dumps(house, comment="two\nlines").startswith("# two\n# lines\nnumber = 7\n")


PRINTABLE = st.characters(exclude_characters=":", exclude_categories=["Cc", "Cs"])
PROXIES = st.builds(
    Proxy,
    st.sampled_from(["http", "socks5"]),
    st.just("PROXY_1"),
    st.integers(1, 65535),
    user=st.text(PRINTABLE, min_size=1, max_size=60),
    password=st.text(PRINTABLE, max_size=60),
    basic=st.sampled_from(["first", "offered", "never"]),
)


@given(PROXIES)
def test_any_password_reads_back_unchanged(proxy: Proxy) -> None:
    assert loads(dumps(proxy), FILE, Proxy) == proxy


def test_collected_problems_are_raised_together() -> None:
    collected = Problems(FILE, TEXT)
    collected.raise_if_any()
    collected.add(("reader", 1, "host"), "is unknown")
    with pytest.raises(SettingsError, match=r"site\.toml:11: reader\[1\]\.host: is unknown"):
        collected.raise_if_any()


def test_an_endpoint_needs_no_address() -> None:
    assert loads('host = "ingest.example.com"', FILE, Endpoint) == Endpoint("ingest.example.com", 443, "")
    assert host_problem("ingest.example.com") == ""


def check_house(house: House, problems: Problems) -> None:
    """Check the number of readers, their hosts and the file name of the key, each in a part of its own."""
    with problems.part():
        if len(house.reader) > house.number:
            problems.add(("number",), "is less than the number of readers")
    with problems.part():
        for index, reader in enumerate(house.reader):
            with problems.part():
                if reader.host not in house.names:
                    problems.add(("reader", index, "host"), "is not in [names]")
    with problems.part():
        if house.key.suffix != ".key":
            problems.add(("key",), "must end in .key")


@pytest.mark.parametrize(
    ("valid", "invalid", "keys"),
    [
        ("", "", ["reader[1].host"]),
        ("number = 7", "number = 0", ["number", "reader[1].host"]),
        ("number = 7", "numbr = 7", ["numbr", "number", "reader[1].host"]),
        ("number = 7", 'number = 1\nkey = "a.pem"', ["number", "reader[1].host", "key"]),
        ("number = 7", "number = 13", [""]),
        ('host = "a.example.com"', 'host = "a..b"', ["reader[0].host", "reader[1].host"]),
        ("443", "0", ['names."a.example.com"[0]']),
        ("443", '0]\n"b..c" = [443', ['names."a.example.com"[0]', 'names."b..c"']),
    ],
)
def test_readable_values_are_checked_even_if_others_are_invalid(
    valid: str, invalid: str, keys: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        loads(TEXT.replace(valid, invalid, 1), FILE, House, check_house)
    assert [problem.key for problem in caught.value.problems] == keys


def test_a_check_without_parts_ends_at_its_first_unreadable_value() -> None:
    def check(house: House, problems: Problems) -> None:
        if not house.names:
            problems.add(("names",), "is empty")
        if house.number < len(house.reader):
            problems.add(("number",), "is too small")

    with pytest.raises(SettingsError) as caught:
        loads('number = "7"\n', FILE, House, check)
    assert [problem.key for problem in caught.value.problems] == ["number", "names"]
