"""Results of build steps: reused, replaced when inputs change, and never deleted while another build uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.build.resume import PARTIAL, Steps


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def make(folder: Path) -> None:
    (folder / "content").write_text("x")


def step(folder: Path, inputs: str) -> tuple[Path, bool]:
    """Make the result of a step in a build of its own; return it, and whether it was reused."""
    reused: list[bool] = []
    with Steps(folder, lambda _name, kept: reused.append(kept)) as steps:
        return steps.step("packages", inputs, make), reused[0]


def test_a_result_is_reused_until_its_inputs_change(tmp_path: Path) -> None:
    first, was_reused = step(tmp_path, "a")
    assert not was_reused
    assert step(tmp_path, "a") == (first, True)
    second, was_reused = step(tmp_path, "b")
    assert not was_reused and second != first
    assert not first.exists()


def test_a_build_with_other_inputs_keeps_a_result_that_is_in_use(tmp_path: Path) -> None:
    with Steps(tmp_path, lambda _name, _kept: None) as steps:
        used = steps.step("packages", "a", make)
        other, _ = step(tmp_path, "b")
        assert (used / "content").exists() and (other / "content").exists()
        assert step(tmp_path, "a") == (used, True)
    last, _ = step(tmp_path, "c")
    assert set(tmp_path.glob("packages-*")) == {last}


def test_an_interrupted_step_is_made_again(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> None:
        make(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Steps(tmp_path, lambda _name, _kept: None) as steps:
        steps.step("packages", "a", interrupted)
    assert (tmp_path / f"packages{PARTIAL}").exists()
    result, was_reused = step(tmp_path, "a")
    assert not was_reused and (result / "content").exists()
    assert not (tmp_path / f"packages{PARTIAL}").exists()


def test_no_lock_remains_after_a_build(tmp_path: Path) -> None:
    before = open_files()
    step(tmp_path, "a")
    assert open_files() == before
