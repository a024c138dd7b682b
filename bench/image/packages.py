"""The time to resolve `%packages` against a repository on disk: `python -m bench.image.packages [--json]`.

One repository is the mock repository in build/mock-repo, with the `%packages` section of the box's kickstart; the
other is as large as RHEL's, with a section that selects most of its packages. Reading the metadata is included.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Figure, figure, run
from imaging.kickstart.assemble import assemble
from imaging.kickstart.document import read
from imaging.kickstart.site import load_site
from imaging.mock_repo.rpms import cached_repository
from imaging.repository.repository import Repository
from tests.support.imaging.repositories import Rpm, write_repository
from tests.support.imaging.sites import write_site

MOCK_REPO = Path("build/mock-repo")
LARGE_PACKAGES = 10_000
LARGE_SELECTED = 6_000
PROVIDED = 12
TURNS = 5


def figures() -> list[Figure]:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        site = write_site(folder)
        kickstart = assemble(load_site(site), site)
        large = write_repository(folder / "large", map(large_package, range(LARGE_PACKAGES)))
        return [
            *measure(folder, "the mock repository", cached_repository(MOCK_REPO), kickstart),
            *measure(folder, "10,000 packages", large, f"%packages\npackage-{LARGE_SELECTED}\n%end\n"),
        ]


def large_package(number: int) -> Rpm:
    """Return a package that depends on all packages with lower numbers, directly or indirectly, through libraries."""
    needed = (
        f"lib{number - 1}.so.0()(64bit)",
        f"lib{number // 2}.so.1()(64bit)",
        f"lib{number // 3}.so.2()(64bit)",
    )
    return Rpm(
        f"package-{number}",
        requires=needed if number else (),
        provides=tuple(f"lib{number}.so.{index}()(64bit)" for index in range(PROVIDED)),
        files=(f"/usr/bin/program-{number}", f"/etc/program-{number}.conf"),
    )


def measure(folder: Path, name: str, repository: Path, text: str) -> list[Figure]:
    kickstart = folder / "box.ks"
    kickstart.write_text(text)
    section = read(kickstart, "RHEL9").packages
    durations = []
    for _ in range(TURNS):
        start = time.perf_counter()
        resolved = Repository.load(repository).resolve(section)
        durations.append(time.perf_counter() - start)
    return [
        figure(f"packages selected by %packages, {name}", "", len(resolved.installed)),
        figure(f"%packages resolved, {name}", "s", statistics.median(durations), "<= 2"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
