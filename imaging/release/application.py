"""Detects whether a release changes only the application of a slot, for which boxes need not restart.

After such a release, the box's programs import their modules from the slot on trial, and use everything else from the
running slot until the machine restarts. The package database differs, too, but no program of a box reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from imaging.release.delta import slot_image
from imaging.release.ext4 import Ext4, Ext4Error

APPLICATION: Final = "/usr/lib/rap/"
FREE: Final = (APPLICATION, "/usr/lib/sysimage/rpm/")
"""Folders that a release of the application may change without a restart of the machine."""
AT_START: Final = ("/usr/lib/rap/python/agents/provision/", "/usr/lib/rap/provision")
"""Parts of these folders that run only when the machine starts, so that a change requires a restart."""


def changed_outside_application(source: Path, target: Path) -> list[str]:
    """Return the sorted paths that differ between two slots, and for which a box must restart.

    Modification times are not compared. Raises: Ext4Error if one is not an ext4 file system; DeltaInputError,
    SlotImageError, OSError.
    """
    before, after = (Ext4(slot_image(image)).entries() for image in (source, target))
    paths = filter(_matters, before.keys() | after.keys())
    return sorted(path for path in paths if before.get(path) != after.get(path))


def changes_only_application(source: Path, target: Path) -> bool:
    """Return whether two slots differ only in their application.

    Raises: DeltaInputError, SlotImageError, OSError.
    """
    try:
        return not changed_outside_application(source, target)
    except Ext4Error:
        return False


def _matters(path: str) -> bool:
    is_free = any(path.startswith(folder) or f"{path}/" == folder for folder in FREE)
    return not is_free or path.startswith(AT_START)
