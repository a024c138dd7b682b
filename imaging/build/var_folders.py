"""The folders of /var that a release needs, which its system creates at each start if they are missing.

/var and the file systems beneath it belong to the box: an update replaces only the root slot. A package of a later
release may need a new folder there, such as that for the state of a service, which nothing else would create.

Source: tmpfiles.d(5). With a colon before mode, user and group, existing folders are not changed (systemd 251 or
later).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FILE: Final = "usr/lib/tmpfiles.d/zz-rap-var.conf"
"""The last file in alphabetical order, so that the lines of packages have precedence."""
_CONFIGURATIONS: Final = ("usr/lib/tmpfiles.d", "etc/tmpfiles.d")
_LOST: Final = "lost+found"
_HEAD: Final = "# Folders of /var that packages of this release contain: an update does not change /var.\n"


def write_var_folders(root: Path) -> None:
    """Write a line of tmpfiles.d for each folder and link of /var without a line of a package."""
    if not (root / "var").is_dir():
        return
    known = set(_configured(root))
    lines = [line for path, line in _lines(root) if path not in known]
    (file := root / FILE).parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_HEAD + "".join(f"{line}\n" for line in lines))
    file.chmod(0o644)


def _configured(root: Path) -> Iterator[str]:
    """Yield the paths that already have a line."""
    for folder in _CONFIGURATIONS:
        for file in (root / folder).glob("*.conf"):
            for line in file.read_text("utf-8", "replace").splitlines():
                fields = line.split()
                if len(fields) > 1 and not fields[0].startswith("#"):
                    yield fields[1].rstrip("/")


def _lines(root: Path) -> Iterator[tuple[str, str]]:
    users, groups = (_names(root / "etc" / name) for name in ("passwd", "group"))
    for parent, folders, files in os.walk(root / "var"):
        folders[:] = sorted(name for name in folders if name != _LOST)
        for name in sorted((*folders, *files)):
            entry = Path(parent, name)
            path = f"/{entry.relative_to(root)}"
            quoted = _quoted(path)
            if entry.is_symlink():
                yield path, f"L {quoted} - - - - {_quoted(str(entry.readlink()))}"
            elif entry.is_dir():
                stat = entry.stat()
                user, group = users.get(stat.st_uid, stat.st_uid), groups.get(stat.st_gid, stat.st_gid)
                yield path, f"d {quoted} :{stat.st_mode & 0o7777:04o} :{user} :{group} -"


def _names(file: Path) -> dict[int, str]:
    """Return the names in passwd(5) or group(5) by number."""
    if not file.exists():
        return {}
    entries = (line.split(":") for line in file.read_text("utf-8", "replace").splitlines())
    return {int(fields[2]): fields[0] for fields in entries if len(fields) > 2 and fields[2].isdigit()}


def _quoted(path: str) -> str:
    """Return a path quoted for tmpfiles.d, where a percent sign begins a specifier."""
    return shlex.quote(path).replace("%", "%%")
