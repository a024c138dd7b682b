"""`python -m imaging.mock_repo DIR`: create the mock repository below DIR, and print its path, for `--repo`.

Downloaded packages are kept there, and a complete repository is not created again. Exit status: 2 for an invalid DIR,
3 if the machine lacks a prerequisite.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from imaging.mock_repo.rpms import cached_repository
from imaging.programs import PrerequisiteMissing, ProgramFailed, require_programs, require_root

USAGE: Final = "usage: python -m imaging.mock_repo DIR"
PROGRAMS: Final = ("apt-get", "dpkg-deb", "rpmbuild", "createrepo_c")
WRONG_INPUT: Final = 2
MACHINE_LACKS: Final = 3


def main(arguments: list[str]) -> int:
    """Run the command with these arguments. Returns the exit status."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        return _fail(WRONG_INPUT, USAGE)
    folder = Path(arguments[0])
    if folder.exists() and not _is_replaceable(folder):
        return _fail(WRONG_INPUT, f"{folder}: contains other files; give a new or empty folder")
    try:
        require_prerequisites()
        sys.stdout.write(f"{cached_repository(folder)}\n")
    except (PrerequisiteMissing, ProgramFailed, OSError) as error:
        return _fail(MACHINE_LACKS, str(error))
    return 0


def _is_replaceable(folder: Path) -> bool:
    """Return whether the folder is empty or was made by this command, so that its content may be deleted."""
    return folder.is_dir() and ((folder / "repository.lock").exists() or not any(folder.iterdir()))


def require_prerequisites() -> None:
    """Check that this machine can make the repository: it must be Debian. Raises: PrerequisiteMissing."""
    require_programs(PROGRAMS)
    require_root("unpacking packages sets the owners of their files, which requires root")


def _fail(status: int, why: str) -> int:
    sys.stderr.write(f"imaging.mock_repo: {why}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
