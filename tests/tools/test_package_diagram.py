"""The package diagram has an arrow for each import that is not implied by others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.package_diagram import BEGIN, END, PACKAGES, CyclicImports, imports_between_packages, render

EMPTY = f"before\n{BEGIN}old\n{END}after\n"


def imports(**packages: str) -> dict[str, set[str]]:
    return {name: set(packages.get(name.replace(".", "_"), "").split()) for name in PACKAGES}


def arrows(page: str) -> list[str]:
    return [line.strip() for line in page.splitlines() if " --> " in line]


def test_an_import_that_follows_from_others_has_no_arrow() -> None:
    page = render(EMPTY, imports(rap="sim settings wire", sim="wire", wire="settings"))
    assert arrows(page) == ["rap --> sim", "sim --> wire", "wire --> settings"]


def test_only_the_text_between_the_marks_is_replaced() -> None:
    page = render(EMPTY, imports(hal_linux="hal"))
    assert page.startswith(f"before\n{BEGIN}```mermaid\n") and page.endswith(f"```\n{END}after\n")
    assert "old" not in page
    assert render(page, imports(hal_linux="hal")) == page
    assert "hal_linux --> hal" in page


def test_packages_that_import_each_other_are_an_error() -> None:
    with pytest.raises(CyclicImports, match="sim"):
        render(EMPTY, imports(sim="wire", wire="sim"))


def test_imports_of_modules_names_and_functions_are_found(tmp_path: Path) -> None:
    files = {
        "sim/deep/lab.py": "import wire.messages\nfrom hal.linux import disk\ndef f():\n    from agents.box import x",
        "hal/disk.py": "import settings\nfrom sim_like import x\nfrom settings_like import y\n",
        "tests/test_lab.py": "import netfw\n",
    }
    for name, code in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    between = {name: sorted(names) for name, names in imports_between_packages(tmp_path).items() if names}
    assert between == {"sim": ["agents.box", "hal.linux", "wire"], "hal": ["settings"]}
