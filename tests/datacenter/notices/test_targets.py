"""The file of targets is private, and its errors contain no URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacenter.notices.targets import NoticeTarget, read_targets
from settings.problems import SettingsError

GOOD = """
[[target]]
name = "chat"
apprise = "json://user:secret@127.0.0.1/path"
severities = ["critical"]

[[target]]
name = "alertmanager"
alertmanager = "http://user:secret@127.0.0.1:9093"
proxy = "http://127.0.0.1:3128"
"""


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "notices.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_private_file_is_read(tmp_path: Path) -> None:
    chat, alertmanager = read_targets(write(tmp_path, GOOD))
    assert (chat.name, chat.recognizes_repetitions) == ("chat", False)
    assert (alertmanager.name, alertmanager.recognizes_repetitions) == ("alertmanager", True)
    assert "secret" not in repr([chat, alertmanager])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o666])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SettingsError, match=rf"has mode {mode:04o}.*run chmod 600"):
        read_targets(write(tmp_path, GOOD, mode))


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ('"alertmanager"\n', '"chat"\n', "target[1].name: chat is used twice"),
        ("json://user", "jsn://user", "target[0].apprise: is not a URL of Apprise"),
        ("http://user", "ftp://user", "target[1].alertmanager: must be a URL such as http://host:port"),
        ('proxy = "http', 'proxy = "socks', "target[1].proxy: must be a URL such as http://host:port"),
        ("alertmanager = ", "severities = []\n#", "target[1].name: give either `apprise` or `alertmanager`"),
        ('"critical"', '"bad"', "target[0].severities[0]: "),
    ],
)
def test_mistakes_in_targets_are_reported(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    assert right in GOOD
    with pytest.raises(SettingsError) as error:
        read_targets(write(tmp_path, GOOD.replace(right, wrong)))
    assert message in str(error.value)
    assert "secret" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"notices\.toml: cannot be read"):
        read_targets(tmp_path / "notices.toml")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"severities": ["error"]}, True),
        ({"severities": ["critical", "warning"]}, False),
        ({"regions": ["north"]}, True),
        ({"regions": ["south"]}, False),
        ({"models": ["m"]}, True),
        ({"models": ["n"]}, False),
        ({"severities": ["error"], "regions": ["south"]}, False),
    ],
)
def test_all_filters_must_match(filters: dict[str, list[str]], expected: bool) -> None:
    target = NoticeTarget(name="t", **filters)  # type: ignore[arg-type]
    assert target.wants("error", "north", "m") is expected
