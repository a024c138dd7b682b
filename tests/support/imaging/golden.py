"""The golden files of kickstarts: every fragment, and the complete kickstarts of two releases, for one site.

    python -m tests.support.imaging.golden

regenerates them; review the difference before committing it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from imaging.kickstart.assemble import assemble, fragments, render, values_of
from imaging.kickstart.site import load_site
from tests.support.imaging.sites import write_site
from tests.support.paths import FIXTURES

FOLDER: Final = FIXTURES / "golden"
COMPLETE_RELEASES: Final = ("almalinux9", "almalinux10")


def goldens(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the path and the content of each golden file; the site file is written to `folder`."""
    file = write_site(folder)
    site = load_site(file)
    values = values_of(site, file)
    for fragment in fragments():
        yield FOLDER / "fragments" / fragment, render(fragment, values)
    for release in COMPLETE_RELEASES:
        yield FOLDER / f"{release}.ks", assemble(site, file, release)


def main() -> None:
    """Write all golden files of kickstarts."""
    (FOLDER / "fragments").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for path, text in goldens(Path(folder)):
            path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
