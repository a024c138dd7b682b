"""The box's own kickstarts, for which the linter has no findings, and the same with planted faults."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

from imaging.kickstart.assemble import assemble
from imaging.kickstart.lint import LintReport, lint
from imaging.kickstart.site import load_site
from imaging.repository.repository import Repository
from settings.board import load_board
from tests.support.imaging.sites import CRYPT_HASH, GRUB_HASH, SITE, write_site

LUKS: Final = '[luks]\npassphrase_file = "/run/install/repo/luks-passphrase"\n'


SITES: Final = {
    "": SITE.replace(LUKS, ""),
    "LUKS": SITE,
    "nobody": SITE.replace(LUKS, ""),
}


@cache
def good(site: str, release: str) -> str:
    """Return the kickstart of a site of `SITES`; the site "nobody" has no administrators."""
    with tempfile.TemporaryDirectory() as folder:
        file = write_site(Path(folder), SITES[site])
        lines = assemble(load_site(file), file, release).splitlines(True)
    left_out = ("user ", "sshkey ") if site == "nobody" else ()
    return "".join(line for line in lines if not line.startswith(left_out))


def good_for(fault: dict[str, Any]) -> str:
    """Return the kickstart into which a fault is planted."""
    return good(fault.get("site", ""), fault.get("release", "almalinux9"))


def planted(text: str, fault: dict[str, Any]) -> tuple[str, int]:
    """Return the kickstart with the planted fault, and the line number of the expected finding."""
    fill = {"GRUB_HASH": GRUB_HASH, "CRYPT_HASH": CRYPT_HASH}
    old, new = fault["old"], fault["new"]
    for placeholder, value in fill.items():
        old, new = old.replace(placeholder, value), new.replace(placeholder, value)
    assert old in text
    wrong = text.replace(old, new)
    at = fault.get("at", new)
    assert at in wrong
    return wrong, wrong[: wrong.index(at) + at.startswith("\n")].count("\n") + 1


def check(path: Path, repository: Repository) -> LintReport:
    return lint(path, "", [repository], load_board("rap-4"), 32_000_000_000)
