"""`rap dc command` follows the configured access policies, and reports mistakes in the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacenter.access.language.policyfile import SHIPPED
from rap.__main__ import main
from tests.support.datacenter.placed import BOX, ENGINEER, SERIAL, placed_instrument

SEND = ["dc", "command", "send", BOX, SERIAL, "send-inventory", "--as", "engineer", "--config"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file, store = placed_instrument(tmp_path, ENGINEER)
    store.close()
    return file


def test_the_policies_of_the_configuration_decide(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SEND, str(config)]) == 0
    folder = tmp_path / "policies"
    folder.mkdir()
    for file in SHIPPED:
        (folder / file.name).write_text(file.read_text())
    forbidden = (
        '@id("no-commands")\n@reason("commands are suspended")\nforbid (principal, action, resource);\n'
    )
    (folder / "99-suspended.cedar").write_text(forbidden)
    config.write_text(config.read_text() + '[access]\npolicies = "policies"\n')
    capsys.readouterr()
    assert main([*SEND, str(config)]) == 2
    # the message does not reveal that the instrument exists
    assert capsys.readouterr().err == f"rap: there is no instrument {SERIAL} at box {BOX}\n"


def test_commands_before_a_number_are_listed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        assert main([*SEND, str(config)]) == 0
    capsys.readouterr()
    assert main(["dc", "command", "list", "--as", "engineer", "--config", str(config), "--before", "3"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["2", "1"]


def test_an_invalid_database_url_is_reported_with_file_and_key(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text().replace("sqlite://", "sqlit://"))
    for verb in (SEND, ["dc", "token", "list", "--config"]):
        assert main([*verb, str(config)]) == 2
        assert f"{config}:" in (text := capsys.readouterr().err) and "store.url" in text
