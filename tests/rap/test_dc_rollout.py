"""`rap dc rollout`: one person proposes a plan, another approves it, and its progress is shown."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rap.__main__ import main
from settings.profile import DIRECTORY
from tests.support.datacenter.placed import BOX, ENGINEER, placed_instrument
from tests.support.datacenter.rollouts import served_releases

STAFF = f"""{ENGINEER}[staff.chief]
roles = ["supervisor"]
scope = ["everywhere"]
"""
PLAN = """release = 12
place = "country/DE"
waves = [50, 100]
answer_hours = 48
[restart]
begins = "22:00"
ends = "04:00"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file, store = placed_instrument(tmp_path, STAFF)
    store.close()
    served_releases(tmp_path, 12, now=datetime.now(UTC))
    file.write_text(f'{file.read_text()}\n[releases]\nfolder = "releases"\n')
    (tmp_path / "plan.toml").write_text(PLAN)
    return file


def test_a_rollout_is_proposed_approved_shown_and_withdrawn(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = str(config.parent / "plan.toml")
    engineer, chief = (["--config", str(config), "--as", name] for name in ("engineer", "chief"))
    assert main(["dc", "rollout", "list", *engineer]) == 0
    assert capsys.readouterr().out == "no rollouts\n"
    assert main(["dc", "rollout", "propose", plan, *engineer]) == 0
    assert capsys.readouterr().out.startswith(
        "1  proposed  release 12, 1.12.0  country/DE  by engineer\nwave 1, up to 50 %"
    )
    assert main(["dc", "rollout", "approve", "1", *engineer]) == 2
    assert main(["dc", "rollout", "approve", "1", *chief]) == 0
    assert main(["dc", "rollout", "pause", "1", *engineer]) == 0
    assert main(["dc", "rollout", "pause", "1", *engineer]) == 2
    assert "the rollout is paused; pause is possible while it is running" in capsys.readouterr().err
    assert main(["dc", "rollout", "withdraw", "1", *chief]) == 0
    capsys.readouterr()
    assert main(["dc", "rollout", "show", "1", "--json", *engineer]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["reason"], shown["approved_by"]) == (
        "withdrawn",
        "withdrawn by chief",
        "chief",
    )
    assert [wave["percent"] for wave in shown["waves"]] == [50, 100]
    assert shown["plan"]["restart"]["begins"] == "22:00"
    assert main(["dc", "rollout", "list", *engineer]) == 0
    assert capsys.readouterr().out.startswith("1  withdrawn (withdrawn by chief)  release 12")


def test_wrong_plans_and_numbers_are_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = config.parent / "plan.toml"
    by = ["--config", str(config), "--as", "engineer"]
    plan.write_text(PLAN.replace("12", "13"))
    assert main(["dc", "rollout", "propose", str(plan), *by]) == 2
    assert "there is no release 13; the releases are: 12" in capsys.readouterr().err
    plan.write_text(PLAN.replace("100]", "90]"))
    assert main(["dc", "rollout", "propose", str(plan), *by]) == 2
    assert "the last is 100" in capsys.readouterr().err
    plan.write_text(PLAN + f'box = "{BOX}"\n')
    assert main(["dc", "rollout", "propose", str(plan), *by]) == 2
    assert "unknown key" in capsys.readouterr().err
    assert main(["dc", "rollout", "show", "5", *by]) == 2
    assert "there is no rollout 5" in capsys.readouterr().err


def test_profiles_are_released_and_proposed_without_a_restart(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = config.parent
    (folder / "files/profiles").mkdir(parents=True)
    shutil.copy(DIRECTORY / "chemistry-analyzer.toml", folder / "files/profiles")
    keys = ["--targets-key", str(folder / "targets.pem"), "--online-key", str(folder / "online.pem")]
    arguments = ["--release", "profiles-1", "--number", "13", *keys]
    assert (
        main(["image", "release", "add-data", str(folder / "releases"), str(folder / "files"), *arguments])
        == 0
    )
    assert "data/profiles-1" in capsys.readouterr().out
    (folder / "plan.toml").write_text(PLAN.replace("12", "13"))
    by = ["--config", str(config), "--as", "engineer"]
    assert main(["dc", "rollout", "propose", str(folder / "plan.toml"), *by]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1  proposed  release 13, profiles-1 (data)  country/DE  by engineer\n")
    assert "may restart" not in out
    (folder / "plan.toml").write_text(PLAN)
    assert main(["dc", "rollout", "propose", str(folder / "plan.toml"), *by]) == 0
    assert "1 boxes of " in capsys.readouterr().out
