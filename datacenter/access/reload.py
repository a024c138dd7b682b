"""Reads the staff directory and the policies again, when their files have changed or the operator asks for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from datacenter.access.control import AccessControl, AccessFiles
from settings.problems import SettingsError
from wire.tls.identity import FileVersions

REFRESH_SECONDS: Final = 0.25
"""Interval of checks for changed files; they are read once they have not changed for one interval. A right that was
withdrawn ends a session within a second."""
_log: Final = logging.getLogger(__name__)


async def follow_access(
    access: AccessControl,
    find_files: Callable[[], AccessFiles],
    asked: asyncio.Event,
    changed: Callable[[], object] = lambda: None,
) -> None:
    """Read changed files until cancelled, at once when `asked` is set. A wrong file changes nothing, and is logged.

    `find_files` returns the files, also new ones of a folder; `changed` is called when they are in force.
    """
    files = find_files()
    versions = _versions(files)
    while True:
        is_asked = await _is_set_within(asked, REFRESH_SECONDS)
        asked.clear()
        found = find_files()
        is_changed = versions.have_settled(at_once=is_asked)
        if not (is_asked or is_changed or found != files):
            continue
        if found != files:
            files, versions = found, _versions(found)
        try:
            await asyncio.to_thread(access.reload, files)
        except SettingsError as error:
            _log.error("the changed access files are not used, the previous ones remain in force: %s", error)
        else:
            changed()
            people = len(access.rules.directory.staff)
            policies = len(access.rules.policies.policies.policies)
            _log.info("the access files were read again: %d staff, %d policies", people, policies)


def _versions(files: AccessFiles) -> FileVersions:
    return FileVersions([files.directory, *files.policies])


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most for some seconds; return whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
