"""Debian's packages as RPMs beside those of the mock repository, for images that need more than stubs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from imaging.build.resume import Steps
from imaging.mock_repo import rpms
from imaging.mock_repo.debs import fetch
from tests.support.imaging.starts.first_report import MOCK_REPO


def add_debs(
    folder: Path,
    step: str,
    debs: Sequence[str],
    names: Mapping[str, list[str]],
    also: tuple[str, Callable[[Path], object]] | None = None,
) -> None:
    """Copy these packages and their dependencies into `folder`, without repository metadata; cache them as `step`.

    `names` has the RPM names of Debian's packages: RHEL's name, or another one if a stub must stay beside the
    package. `also` is a text that identifies the inputs of further packages, and the function that builds these in
    the folder that it gets. Raises: ProgramFailed.
    """
    cache, everything = MOCK_REPO / "debs", rpms.contents()
    inputs = f"{rpms.DATA.read_text('utf-8')} {debs} {names} {also[0] if also else ''}"

    def make(work: Path) -> None:
        present = [deb.name for deb in fetch(everything.debs, cache)]
        wanted = msgspec.structs.replace(
            everything,
            debs=list(debs),
            leave_out=[*everything.leave_out, *present],
            also=dict(names),
            scripts={},
            first={},
            groups={},
            environments={},
            stubs={"filesystem": everything.stubs["filesystem"]},
        )
        rpms.make_repository(work / "repo", cache, wanted)
        if also:
            also[1](work)

    with Steps(MOCK_REPO, lambda _name, _kept: None) as steps:
        for package in steps.step(step, inputs, make).rglob("*.rpm"):
            if not package.name.startswith("filesystem-"):
                shutil.copy(package, folder)
