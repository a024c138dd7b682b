"""How long it takes to resolve `%packages` against a repository on disk: `python -m bench.image_packages [--json]`.

The repository is the stand-in's, kept below build/standin; the section is that of the box's own kickstart. Reading
the repository's metadata is part of it.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Figure, figure, run
from imaging.kickstart.assemble import assemble
from imaging.kickstart.document import read
from imaging.repository import Repository
from imaging.site import load_site
from imaging.standin.rpms import kept_repository
from tests.imaging.sites import write_site

STANDIN = Path("build/standin")
TURNS = 5


def figures() -> list[Figure]:
    repository = kept_repository(STANDIN)
    with TemporaryDirectory() as folder:
        site = write_site(Path(folder))
        kickstart = Path(folder) / "box.ks"
        kickstart.write_text(assemble(load_site(site), site))
        section = read(kickstart, "RHEL9").packages
    taken = []
    for _ in range(TURNS):
        start = time.perf_counter()
        found = Repository.load(repository).resolve(section)
        taken.append(time.perf_counter() - start)
    return [
        figure("packages that the box's %packages come to", "", len(found.installed)),
        figure("%packages resolved against the stand-in", "s", statistics.median(taken), "<= 2"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
