"""A box has only the base dependencies: its commands run with them, and other commands name the extra they need."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from rap.extras import EXTRAS, missing_extra
from rap.outcome import MACHINE_LACKS, OK
from tests.support.base_only import PROJECT, Blocker, names
from tests.support.paths import FIXTURES, LABS, ROOT
from tests.support.real import prepare, write_box_config

OPTIONAL = PROJECT["optional-dependencies"]
INCLUDED = {"sim": ("datacenter",), "dev": tuple(EXTRAS)}
POLICY = str(FIXTURES / "policies/clinic.toml")


def base_only(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.base_only", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_extra_and_no_base_dependency_is_blocked() -> None:
    blocked = Blocker().blocked
    assert {"simpy", "z3", "sqlalchemy", "jinja2", "rich", "pytest"} <= blocked
    assert not {"msgspec", "cryptography", "cffi", "pycparser", "httptools", "nftables", "spnego"} & blocked


def test_the_commands_of_a_box_run_with_base_dependencies(tmp_path: Path) -> None:
    asyncio.run(prepare(tmp_path, ["CHEM-0001"]))
    config = write_box_config(tmp_path, ["CHEM-0001"], 443)
    for arguments in (
        ["--help"],
        ["box", "run", "--check", "--config", str(config)],
        ["fw", "render", POLICY],
        ["pki", "init", str(tmp_path / "hierarchy")],
        ["pki", "issue", str(tmp_path / "hierarchy"), "RAP-0001", "--for", "box"],
    ):
        result = base_only(*arguments)
        assert result.returncode == OK, (arguments, result.stderr)


@pytest.mark.parametrize("program", ["agents.box.main", "agents.provision.main", "netfw.service.main"])
def test_the_programs_of_a_box_load_with_base_dependencies(program: str) -> None:
    load = f"from tests.support.base_only import block; block(); import {program}"
    subprocess.run([sys.executable, "-c", load], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["lab", "check", str(next(LABS.glob("01*.toml")))], "sim"),
        (["lab", "run", str(next(LABS.glob("02*.toml")))], "sim"),
        (["dc", "serve", "--config", "datacenter.toml"], "datacenter"),
        (["dc", "migrate", "--config", "datacenter.toml"], "datacenter"),
        (["image", "ks", "site.toml"], "imaging"),
        (["image", "check", "box.ks"], "imaging"),
        (["trigger", "check", "lamp-weak.toml"], "proof"),
        (["fw", "prove", POLICY], "proof"),
    ],
)
def test_a_command_whose_extra_is_missing_names_the_package(arguments: list[str], extra: str) -> None:
    result = base_only(*arguments)
    assert result.returncode == MACHINE_LACKS, result.stderr
    assert result.stderr.startswith("rap: this command needs ")
    assert result.stderr.endswith(f", which is not installed: install rap-box[{extra}]\n")


def test_a_missing_module_that_belongs_to_no_extra_is_a_bug() -> None:
    assert missing_extra(ModuleNotFoundError(name="msgspec"), "box") is None
    assert missing_extra(ModuleNotFoundError(name="agents.box.nowhere"), "box") is None


@pytest.mark.parametrize("extra", INCLUDED)
def test_an_extra_lists_the_packages_of_the_extras_it_includes(extra: str) -> None:
    for included in INCLUDED[extra]:
        assert set(OPTIONAL[included]) <= set(OPTIONAL[extra])


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_package_of_an_extra_is_known_to_the_command(extra: str) -> None:
    provided = packages_distributions()
    own = {module for module in EXTRAS[extra] if module not in provided or "rap-box" in provided[module]}
    known = {name.lower().replace("_", "-") for module in EXTRAS[extra] - own for name in provided[module]}
    included = {name for other in INCLUDED.get(extra, ()) for name in names(OPTIONAL[other])}
    assert known == names(OPTIONAL[extra]) - included
    for module in own:
        import_module(module)
