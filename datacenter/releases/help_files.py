"""Sends help files of data releases to instruments, by a command to each instrument whose box has the release.

A data release may contain files for the instruments of a model (`help/<model>/<name>`). The rollout distributes them
to the boxes. When a box reports the release in force, a command `help-file` is queued for each of its instruments of
that model; the box has the file already. Requester, purpose and approval are copied from the rollout, which two
persons have approved. A rollout that was stopped or withdrawn queues no further commands.

An instrument gets a file once, and again when a release has different content under the same name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, exists, select

from datacenter.access.vocabulary import VERB_ACTIONS
from datacenter.audit.chain import AuditEntry
from datacenter.audit.trail import append_within
from datacenter.commands.desk import EXPIRES_HOURS_MAX, verbs_of
from datacenter.commands.files import FileArchive, FileTooLargeError
from datacenter.releases.folder import Release, ReleaseFolder
from datacenter.releases.runner import ACTOR
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_releases, boxes, commands, instruments, rollouts
from settings.profile import Verb
from wire.files import FileReference
from wire.messages import encode
from wire.release.data import DataError, help_file, parse_manifest
from wire.release.metadata import Target

VERB: Final[Verb] = "help-file"
COMMANDS_MAX: Final = 500
"""Maximum number of commands queued for a file in one pass; further ones follow in later passes."""
_KEY: Final = "data-release/"
"""Prefix of the request keys of these commands."""
_C: Final = commands.c
_I: Final = instruments.c
_R: Final = rollouts.c
_log: Final = logging.getLogger(__name__)


class HelpFile(NamedTuple):
    """A file of a data release for the instruments of a model."""

    release: int
    model: str
    name: str
    reference: FileReference


class HelpFileSender:
    """Queues the commands of the releases in a folder."""

    def __init__(self, folder: ReleaseFolder, archive: FileArchive) -> None:
        self._folder, self._archive = folder, archive
        self._known: dict[tuple[int, str], list[HelpFile]] = {}
        """By release and hash of its manifest; releases with the same files have the same hash."""

    def send(self, store: Store, now_ms: int) -> None:
        """Queue the commands that are due. Raises: StoreError, OSError."""
        files = [file for release in self._releases() for file in self._files(release)]
        if not files:
            return
        query = select(box_releases.c.data).where(box_releases.c.data > 0).distinct()
        in_force = {number for (number,) in store.read(query)}
        for file in files:
            if file.release in in_force and VERB in verbs_of(file.model):
                content = self._folder.read_target(file.reference.sha256, 0, file.reference.size) or b""
                with store.transaction() as connection:
                    self._queue(store, connection, file, content, now_ms)

    def _releases(self) -> list[Release]:
        releases = self._folder.current.releases
        return [release for _, release in sorted(releases.items()) if release.kind == "data"]

    def _files(self, release: Release) -> Iterator[HelpFile]:
        for name in release.targets:
            manifest = self._folder.current.targets[name]
            key = release.number, manifest.sha256
            if key not in self._known:
                self._known[key] = self._read(release.number, manifest)
            yield from self._known[key]

    def _read(self, number: int, manifest: Target) -> list[HelpFile]:
        try:
            listed = parse_manifest(
                self._folder.read_target(manifest.sha256, 0, manifest.length) or b""
            ).files
        except DataError as error:
            _log.error("data release %d: %s", number, error)
            return []
        parsed = ((help_file(file.path), file) for file in listed)
        return [
            HelpFile(number, *names, FileReference(file.sha256, file.bytes))
            for names, file in parsed
            if names
        ]

    def _queue(
        self, store: Store, connection: Connection, file: HelpFile, content: bytes, now_ms: int
    ) -> None:
        rolled_out = and_(
            _R.release == file.release, _R.kind == "data", _R.state.in_(("running", "paused", "done"))
        )
        query = select(rollouts).where(rolled_out).order_by(_R.id.desc()).limit(1)
        rollout = connection.execute(query.with_for_update()).one_or_none()  # one process at a time
        if rollout is None:
            return
        due = connection.execute(_due(file)).all()
        if not due:
            return
        try:
            self._archive.add(connection, file.reference, BytesIO(content), now_ms)
        except FileTooLargeError as error:
            _log.error("%s of release %d is not sent: %s", file.name, file.release, error)
            return
        for box, serial in due:
            columns: dict[str, Any] = {
                "requester": rollout.requester,
                "purpose": rollout.purpose,
                "approved_by": rollout.approved_by,
                "approved_at_ms": rollout.approved_at_ms,
                "expires_at_ms": now_ms + EXPIRES_HOURS_MAX * 3_600_000,
                "file": file.reference.sha256,
                "file_bytes": file.reference.size,
                "file_name": file.name,
                "request_key": f"{_KEY}{rollout.id}/{box}/{serial}/{file.name}",
            }
            store.queue_within(connection, box, serial, VERB, encode(file.reference), now_ms, **columns)
        text = f"{file.name} of release {file.release} for {len(due)} instruments of model {file.model}"
        fields = "Rollout", str(rollout.id), "", rollout.purpose, "permitted", "", text
        append_within(connection, [AuditEntry(now_ms, ACTOR, "", VERB_ACTIONS[VERB], *fields)])


def _due(file: HelpFile) -> Any:
    """Return the query for boxes and serials of the instruments that are to get a file."""
    newer = commands.alias("newer")
    of_instrument = newer.c.box == _C.box, newer.c.instrument == _C.instrument
    is_latest = ~exists().where(_is_of_name(newer.c, file), *of_instrument, newer.c.id > _C.id)
    here = _C.box == _I.box, _C.instrument == _I.serial
    has = exists().where(_is_of_name(_C, file), *here, _C.file == file.reference.sha256, is_latest)
    tables = instruments.join(boxes, boxes.c.serial == _I.box).join(
        box_releases, box_releases.c.box == _I.box
    )
    conditions = (
        box_releases.c.data == file.release,
        _I.model == file.model,
        boxes.c.dismissed_at_ms.is_(None),
        ~has,
    )
    query = select(_I.box, _I.serial).select_from(tables).where(*conditions)
    return query.order_by(_I.box, _I.serial).limit(COMMANDS_MAX)


def _is_of_name(columns: Any, file: HelpFile) -> ColumnElement[bool]:
    """Return the condition for commands with a file of this name, of any release."""
    of_release = columns.request_key.startswith(_KEY)
    return and_(columns.verb == VERB, columns.file_name == file.name, of_release)
