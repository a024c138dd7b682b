"""The contents of the box's package: its Python packages and modules, its version, and errors of a build."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

from imaging.programs import PrerequisiteMissing
from imaging.rpm.build import build_rpm, source_date_epoch
from imaging.rpm.contents import (
    REPOSITORY,
    RpmError,
    load_contents,
    locked,
    make_target,
    version,
)
from imaging.rpm.tree import copy_modules, interpreter
from rap import VERSION
from rap.__main__ import main
from rap.outcome import MACHINE_LACKS, WRONG_INPUT

LOCKED = """\
# by pip-compile
cffi==2.0.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via
    #   cryptography
    #   rap-box (pyproject.toml)
cryptography==45.0 ; python_version > "3" \\
    --hash=sha256:cc
    # via rap-box (pyproject.toml)
plotly==6.0 \\
    --hash=sha256:dd
    # via rap-box (pyproject.toml)
pycparser==3.0 \\
    --hash=sha256:ee
    # via cffi
"""
CONTENTS = msgspec.structs.replace(
    load_contents(), distribution=[], licenses={"cryptography": "A", "cffi": "B", "pycparser": "C"}
)


def test_the_boxs_requirements_are_selected_with_versions_hashes_and_markers() -> None:
    selected = locked(CONTENTS, LOCKED)
    assert [(one.name, one.version) for one in selected] == [
        ("cffi", "2.0.0"),
        ("cryptography", "45.0"),
        ("pycparser", "3.0"),
    ]
    assert selected[1].text.startswith('cryptography==45.0 ; python_version > "3" \\\n    --hash=sha256:cc\n')
    assert "sha256:bb" in selected[0].text


def test_a_dependency_without_a_reviewed_license_is_refused() -> None:
    unread = msgspec.structs.replace(CONTENTS, licenses={"cryptography": "A", "cffi": "B"})
    with pytest.raises(RpmError, match="add the license of pycparser"):
        locked(unread, LOCKED)


def test_a_package_that_is_not_locked_is_refused() -> None:
    more = msgspec.structs.replace(CONTENTS, licenses={**CONTENTS.licenses, "left-pad": "MIT"})
    with pytest.raises(RpmError, match="has no left-pad; run `make lock`"):
        locked(more, LOCKED)


def test_the_box_package_contains_nothing_for_simulation() -> None:
    names = {one.name for one in locked(load_contents(), (REPOSITORY / "requirements.txt").read_text())}
    assert {"cffi", "msgspec", "httptools"} <= names
    assert not names & {
        "cryptography",  # the distribution's
        "simpy",
        "pyroute2",
        "sqlalchemy",
        "plotly",
        "scapy",
        "z3-solver",
        "pykickstart",
        "pytest",
    }


EXTRAS = ("netfw.proof", "sim", "datacenter", "imaging")
"""Packages of this repository that need an extra, and that a box does not have."""


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, except those only for type checkers."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return (
        named
        | {str(node.module) for node in froms}
        | {f"{n.module}.{a.name}" for n in froms for a in n.names}
    )


def test_packaged_modules_import_only_packaged_modules(tmp_path: Path) -> None:
    copy_modules(load_contents(), tmp_path)
    shipped = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.py")}
    not_shipped = set()
    for path in shipped:
        for name in imported(tmp_path / path):
            module = Path(name.replace(".", "/"))
            is_own = (REPOSITORY / module.with_suffix(".py")).exists() or (REPOSITORY / module).is_dir()
            if is_own and not {module.with_suffix(".py"), module / "__init__.py"} & shipped:
                not_shipped.add(
                    (str(path), next((each for each in EXTRAS if name.startswith(f"{each}.")), name))
                )
    assert not_shipped == {
        ("rap/fw.py", "netfw.proof"),
        ("rap/profile.py", "sim"),
        ("rap/session/__init__.py", "datacenter"),
        ("rap/session/__init__.py", "sim"),
        ("rap/trust/__init__.py", "imaging"),
    }


def test_the_package_has_the_version_of_the_command() -> None:
    assert version() == VERSION


def test_each_release_has_its_python_version() -> None:
    assert make_target(CONTENTS, "rhel9").python == "3.11"
    assert make_target(CONTENTS, "rhel9", "3.12").python_package == "python3.12"
    target = make_target(CONTENTS, "rhel10")
    assert (target.python, target.python_package, target.tag) == ("3.12", "python3", "el10")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--release", "rhel8"], "--release rhel8: is unknown; write one of rhel9, rhel10"),
        (
            ["--release", "rhel10", "--python", "3.11"],
            "--python 3.11: rhel10 does not have it; write one of 3.12",
        ),
    ],
)
def test_an_unknown_target_is_an_input_error(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "rpm", "-o", str(tmp_path / "out"), *options]) == WRONG_INPUT
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_error_without_rpmbuild_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["image", "rpm", "-o", str(tmp_path / "out")]) == MACHINE_LACKS
    assert "apt-get install rpm (Debian), dnf install rpm-build (RHEL)" in capsys.readouterr().err


def test_an_interpreter_that_does_not_run_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python3.99").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python3.99").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        PrerequisiteMissing, match=r"install python3.99, or leave the byte code out with --no-bytecode"
    ):
        interpreter("3.99")


def test_missing_wheels_are_reported_and_leave_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with pytest.raises(RpmError, match=r"pip failed: [^$]*No matching distribution found"):
        build_rpm(tmp_path / "out", "rhel9", wheels=tmp_path / "wheels")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp", "wheels"]
    assert not list((tmp_path / "tmp").iterdir())


def test_the_build_time_is_source_date_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert source_date_epoch() == 1_700_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(RpmError, match="a whole number of seconds"):
        source_date_epoch()
