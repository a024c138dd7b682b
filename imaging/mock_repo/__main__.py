"""`python -m imaging.mock_repo DIR`: make the stand-in repository below DIR, and print where it is, for `--repo`.

What apt fetched is kept there; a second call makes nothing that is there already. Exit status as everywhere: 2 for a
wrong DIR, 3 for what the machine lacks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from imaging.mock_repo.rpms import kept_repository
from imaging.programs import PrerequisiteMissing, ProgramFailed, require_programs, require_root

USAGE: Final = "usage: python -m imaging.mock_repo DIR"
PROGRAMS: Final = ("apt-get", "dpkg-deb", "rpmbuild", "createrepo_c")
WRONG_INPUT: Final = 2
MACHINE_LACKS: Final = 3


def main(words: list[str]) -> int:
    """The command; `words` are what follows its name. Returns the exit status."""
    if len(words) != 1 or words[0].startswith("-"):
        return _ended(WRONG_INPUT, USAGE)
    folder = Path(words[0])
    if folder.exists() and not _ours(folder):
        return _ended(WRONG_INPUT, f"{folder}: give a new or an empty folder, or one that this command made")
    try:
        require_prerequisites()
        sys.stdout.write(f"{kept_repository(folder)}\n")
    except (PrerequisiteMissing, ProgramFailed, OSError) as error:
        return _ended(MACHINE_LACKS, str(error))
    return 0


def _ours(folder: Path) -> bool:
    """Old results in the folder are deleted, so that it must be nobody else's."""
    return folder.is_dir() and ((folder / "repository.lock").exists() or not any(folder.iterdir()))


def require_prerequisites() -> None:
    """Check that this machine can make the repository: it must be Debian. Raises: PrerequisiteMissing."""
    require_programs(PROGRAMS)
    require_root("unpacking packages sets the owners of their files, which needs root rights")


def _ended(status: int, why: str) -> int:
    sys.stderr.write(f"imaging.mock_repo: {why}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
