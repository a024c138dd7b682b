"""Whether a release changes the application of a slot alone, so that boxes need not restart for it.

The box's programs import their modules from the slot on trial, and everything else remains that of the running slot
until the machine restarts. The package database names the packages of a release, and no program of a box reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from imaging.release.delta import slot_image
from imaging.release.ext4 import Ext4, Ext4Error

APPLICATION: Final = "/usr/lib/rap/"
FREE: Final = (APPLICATION, "/usr/lib/sysimage/rpm/")
"""What may differ."""
AT_START: Final = ("/usr/lib/rap/python/agents/provision/", "/usr/lib/rap/provision")
"""What runs when the machine starts, and so may not differ: a change of it would have no effect before."""


def changed_outside_application(source: Path, target: Path) -> list[str]:
    """Return the paths that differ between two slots, and for which a box must restart, in their order.

    Modification times are not compared. Raises: Ext4Error if one is no ext4 file system; DeltaInputError,
    SlotImageError, OSError.
    """
    before, after = (Ext4(slot_image(image)).entries() for image in (source, target))
    paths = filter(_matters, before.keys() | after.keys())
    return sorted(path for path in paths if before.get(path) != after.get(path))


def is_application_alone(source: Path, target: Path) -> bool:
    """Return whether two slots differ in their application alone.

    Raises: DeltaInputError, SlotImageError, OSError.
    """
    try:
        return not changed_outside_application(source, target)
    except Ext4Error:
        return False


def _matters(path: str) -> bool:
    is_free = any(path.startswith(folder) or f"{path}/" == folder for folder in FREE)
    return not is_free or path.startswith(AT_START)
