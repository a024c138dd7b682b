"""Rereads the staff directory and the policies when their files have changed, or on SIGHUP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from datacenter.access.control import AccessControl, AccessFiles, AccessRules
from datacenter.store.errors import StoreError
from settings.problems import SettingsError
from wire.tls.identity import FileVersions

REFRESH_SECONDS: Final = 0.25
"""Interval of checks for changed files; they are read once they have not changed for one interval. Therefore a
session ends within a second after a right that it needs was withdrawn."""
_log: Final = logging.getLogger(__name__)


async def follow_access(
    access: AccessControl,
    find_files: Callable[[], AccessFiles],
    requested: asyncio.Event,
    changed: Callable[[], object] = lambda: None,
    record: Callable[[AccessRules, AccessRules], object] = lambda _before, _after: None,
) -> None:
    """Read changed files until cancelled, immediately when `requested` is set.

    A file with mistakes is logged and changes nothing. `find_files` returns the files, including new files in a
    folder; `changed` is called when they are in force, and `record`, on a thread, with the rules before and after. A
    right is withdrawn even if the record fails with StoreError; the record is then repeated.
    """
    files = find_files()
    versions = _versions(files)
    recorded = access.rules
    while True:
        is_requested = await _is_set_within(requested, REFRESH_SECONDS)
        requested.clear()
        if access.rules is not recorded:
            recorded = await _record(record, recorded, access.rules)
        present = find_files()
        is_changed = versions.have_settled(at_once=is_requested)
        if not (is_requested or is_changed or present != files):
            continue
        if present != files:
            files, versions = present, _versions(present)
        try:
            await asyncio.to_thread(access.reload, files)
        except SettingsError as error:
            _log.error("the changed access files are not used, the previous ones remain in force: %s", error)
        else:
            changed()
            recorded = await _record(record, recorded, access.rules)
            people = len(access.rules.directory.staff)
            policies = len(access.rules.policies.policies.policies)
            _log.info("the access files were read again: %d staff, %d policies", people, policies)


async def _record(
    record: Callable[[AccessRules, AccessRules], object], before: AccessRules, after: AccessRules
) -> AccessRules:
    """Record a change; return the rules up to which changes are recorded."""
    try:
        await asyncio.to_thread(record, before, after)
    except StoreError as error:
        _log.error("a change of the access files could not be recorded: %s", error)
        return before
    return after


def _versions(files: AccessFiles) -> FileVersions:
    return FileVersions([files.directory, *files.policies])


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, for at most `seconds`; return whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
