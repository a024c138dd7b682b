"""Kickstarts of the box without findings."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from imaging.kickstart.assemble import assemble
from imaging.kickstart.site import load_site
from tests.support.imaging.sites import SITE, write_site

LUKS: Final = '[luks]\npassphrase_file = "/run/install/repo/luks-passphrase"\n'


SITES: Final = {
    "": SITE.replace(LUKS, ""),
    "LUKS": SITE,
    "nobody": SITE.replace(LUKS, ""),
}


@cache
def good(site: str, release: str) -> str:
    """The box's own kickstart, with which nothing is wrong; without administrators for the site "nobody"."""
    with tempfile.TemporaryDirectory() as folder:
        file = write_site(Path(folder), SITES[site])
        lines = assemble(load_site(file), file, release).splitlines(True)
    left_out = ("user ", "sshkey ") if site == "nobody" else ()
    return "".join(line for line in lines if not line.startswith(left_out))
