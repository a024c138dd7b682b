"""The staff directory: every mistake is reported with its line, and expiry times are exact."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from datacenter.access.directory import read_directory
from settings.problems import SettingsError

DAY_MS = 86_400_000
RIGHT = f"""
[staff.engineer]
roles = ["service-engineer"]
scope = ["country/DE", "site/people's"]
[staff.engineer.trainings]
hematology-analyzer = 2026-10-01
chemistry-analyzer = 2026-10-01T12:00:00.5+02:00
[staff."bo.é"]
roles = []
scope = ["everywhere"]
active = false
[token.export]
owner = "engineer"
actions = ["read"]
scope = ["region/europe"]
expires = 2027-01-01
sha256 = "{hashlib.sha256(b"secret").hexdigest()}"
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "staff.toml"
    file.write_text(text)
    return file


def test_a_directory_has_staff_trainings_and_tokens(tmp_path: Path) -> None:
    directory = read_directory(written(tmp_path, RIGHT))
    engineer = directory.principal("engineer")
    assert engineer is not None
    assert engineer.roles == {"service-engineer"}
    assert engineer.scope == {"country/DE", "site/people's"}
    assert engineer.trainings == {
        "hematology-analyzer": 20_727 * DAY_MS,
        "chemistry-analyzer": 20_727 * DAY_MS + 10 * 3_600_000 + 500,
    }
    bo = directory.principal("bo.é")
    assert bo is not None and not bo.active
    entry = directory.token("secret")
    assert entry is not None
    assert (entry.owner, entry.token.actions, entry.token.expires_ms) == (
        "engineer",
        frozenset({"read"}),
        20_819 * DAY_MS,
    )


@pytest.mark.parametrize(
    "name", ["Engineer", "engineer ", "", "enginee\u0440", "bo.e\u0301", "engineer\x00", "*"]
)
def test_similar_names_are_different_names(tmp_path: Path, name: str) -> None:
    assert read_directory(written(tmp_path, RIGHT)).principal(name) is None


@pytest.mark.parametrize("secret", ["", "Secret", "secret ", "\udc80", hashlib.sha256(b"secret").hexdigest()])
def test_a_wrong_secret_is_no_token(tmp_path: Path, secret: str) -> None:
    assert read_directory(written(tmp_path, RIGHT)).token(secret) is None


WRONG = [
    ('"service-engineer"', '"servce-engineer"', "3: staff.engineer.roles", "did you mean service-engineer?"),
    ('"country/DE"', '"country/de"', "4: staff.engineer.scope[0]", "is not a location"),
    ('"country/DE"', '"DE"', "4: staff.engineer.scope[0]", '"country/…" with two capital letters'),
    ('"country/DE"', '"site/"', "4: staff.engineer.scope[0]", "is not a location"),
    ('"country/DE"', '"site/a\\u0000"', "4: staff.engineer.scope[0]", "is not a location"),
    (
        "hematology-analyzer = ",
        "hematolgy-analyzer = ",
        "6: staff.engineer.trainings.hematolgy-analyzer",
        "did you mean hematology-analyzer?",
    ),
    (
        "= 2026-10-01\n",
        '= "2026-10-01"\n',
        "6: staff.engineer.trainings.hematology-analyzer",
        "without quotes",
    ),
    (
        "2026-10-01T12:00:00.5+02:00",
        "2026-10-01T12:00:00",
        "7: staff.engineer.trainings.chemistry-analyzer",
        "needs an offset from UTC",
    ),
    ("active = false", "activ = false", '11: staff."bo.é".activ', "did you mean active?"),
    ('owner = "engineer"', 'owner = "enginer"', "13: token.export.owner", "did you mean engineer?"),
    ('actions = ["read"]', 'actions = ["reed"]', "14: token.export.actions", "did you mean read?"),
    ('actions = ["read"]', "actions = []", "14: token.export.actions", ">= 1"),
    ("expires = 2027-01-01", "expires = 5", "16: token.export.expires", "a date like 2026-10-01"),
    ('sha256 = "', 'sha256 = "0', "17: token.export.sha256", "64 digits"),
    ("[token.export]", '[token." "]', "12: token", "no space at either end"),
]


@pytest.mark.parametrize(("old", "new", "position", "message"), WRONG)
def test_a_mistake_is_reported_with_its_line(
    tmp_path: Path, old: str, new: str, position: str, message: str
) -> None:
    assert old in RIGHT
    file = written(tmp_path, RIGHT.replace(old, new))
    with pytest.raises(SettingsError) as raised:
        read_directory(file)
    assert f"{file}:{position}" in str(raised.value)
    assert message in str(raised.value)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = RIGHT.replace('"country/DE"', '"x"').replace('"service-engineer"', '"x"').replace("active", "x")
    with pytest.raises(SettingsError) as raised:
        read_directory(written(tmp_path, text))
    assert len(raised.value.problems) == 3


def test_a_wrong_value_hides_no_other_mistakes(tmp_path: Path) -> None:
    """A role and the time zone of one person are wrong, and the owner and an action of a token."""
    text = RIGHT.replace('"service-engineer"', '"x"', 1).replace("roles =", 'zone = "Mars/Base"\nroles =', 1)
    head, separator, token = text.partition("[token.export]")
    name = token.partition('owner = "')[2].partition('"')[0]
    token = token.replace(f'owner = "{name}"', 'owner = "nobody"').replace(
        "actions = [", 'actions = ["fly", '
    )
    with pytest.raises(SettingsError) as raised:
        read_directory(written(tmp_path, head + separator + token))
    keys = [problem.key.rpartition(".")[2] for problem in raised.value.problems]
    assert keys == ["roles[0]", "zone", "owner", "actions"]


def test_two_tokens_with_one_secret_are_reported(tmp_path: Path) -> None:
    token = RIGHT[RIGHT.index("[token.export]") :]
    with pytest.raises(SettingsError, match="is also that of token export"):
        read_directory(written(tmp_path, RIGHT + token.replace("[token.export]", "[token.other]")))
