"""Sending, approving, listing and withdrawing commands by staff, within their rights; every decision is recorded.

A command of a dangerous kind waits until a second person has approved exactly this command with exactly this file
(`datacenter.access.four_eyes`). At that moment, the rights of both are checked again, and the command is queued.

Before a file is stored or downloaded, a separate record with its hash is written. A request with a key that the same
person has used before is a repetition, and returns the command of the first request.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, select, update

from datacenter.access.control import AccessDecider
from datacenter.access.decision import Decision
from datacenter.access.four_eyes import APPROVAL_MS, NotApproved, PendingChange, approve, decide_change
from datacenter.access.request import Approval, RequestContext, Resource
from datacenter.access.vocabulary import VERB_ACTIONS, Purpose, members
from datacenter.commands.files import FileArchive, refer_to
from datacenter.commands.listing import (
    ALL,
    CommandFilter,
    CommandRow,
    FileKey,
    FileRow,
    find_command_row,
    list_commands,
    list_files,
)
from datacenter.fleet.visible import COLUMNS, find_instrument
from datacenter.store.command_states import WITHDRAWABLE
from datacenter.store.store import Store
from datacenter.store.tables.schema import commands
from settings.problems import SettingsError
from settings.profile import Verb, load_profile
from wire.files import DOWN_VERBS
from wire.messages import encode

EXPIRES_HOURS: Final = 7 * 24
"""Default time until a command expires."""
EXPIRES_HOURS_MAX: Final = 90 * 24
LISTED_MAX: Final = 200
FILE_NAME_CHARACTERS_MAX: Final = 120
REQUEST_KEY_CHARACTERS_MAX: Final = 100
SECOND_PERSON: Final = "a second person"


class CommandRefusedError(Exception):
    """The command cannot be sent, approved or withdrawn; nothing was changed. The message says why."""


class WrongCommandError(CommandRefusedError):
    """The instrument does not support the command, or the file or the time is invalid.

    The message says how to correct it.
    """


class CommandConflictError(CommandRefusedError):
    """The state of the command, or an earlier request with the same key, does not permit it."""


class StaffActor(NamedTuple):
    """A member of the staff, and the purpose of their action."""

    staff: str
    purpose: Purpose


class SentFile(NamedTuple):
    """The file of a command: readable from its beginning, with the sender's name for it."""

    content: BinaryIO
    name: str = ""


class CommandOrder(NamedTuple):
    """The command to send. `key` is an idempotency key: a second request with the same key has no effect."""

    verb: Verb
    file: SentFile | None = None
    hours: int = EXPIRES_HOURS
    key: str = ""


class StoredFile(NamedTuple):
    """A complete file in the data center."""

    archive: FileArchive
    sha256: str
    size: int
    name: str

    def read(self, offset: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `offset` until before `end`, by default all. Raises: StoreError."""
        return self.archive.read(self.sha256, offset, self.size if end is None else end)


@dataclass(frozen=True)
class CommandDesk:
    """Actions of staff on commands. All methods raise StoreError."""

    store: Store
    archive: FileArchive
    access: AccessDecider

    def send(
        self, actor: StaffActor, box: str, instrument: str, order: CommandOrder, now_ms: int
    ) -> CommandRow:
        """Queue a command; a dangerous one waits for approval. It and its file are committed together.

        Raises: CommandRefusedError; FileTooLargeError.
        """
        resource = self._resource(actor, box, instrument, now_ms)
        _check_order(resource.model, order)
        reference = refer_to(order.file.content) if order.file else None
        action = VERB_ACTIONS[order.verb]
        decision = self._require_right(actor, action, resource, now_ms)
        columns: dict[str, Any] = {"file": None}
        if order.file and reference:
            name = _cleaned(order.file.name)
            columns = {"file": reference.sha256, "file_bytes": reference.size, "file_name": name}
            file = replace(decision.request, resource=replace(resource, kind="File", id=reference.sha256))
            text = f"{order.verb} of {reference.size:,} bytes for {instrument} at {box}"
            text += ", waiting for approval" if is_dangerous(order.verb) else ""
            self.access.record(Decision(file, True, None, None, text))
        with self.store.transaction() as connection:
            number = _number_of(connection, actor.staff, order, (box, instrument, columns["file"]))
            if number is None:
                if order.file and reference:
                    self.archive.add(connection, reference, order.file.content, now_ms)
                number = self.store.queue_within(
                    connection,
                    box,
                    instrument,
                    order.verb,
                    encode(reference) if reference else b"",
                    now_ms,
                    state="waiting for approval" if is_dangerous(order.verb) else "queued",
                    requester=actor.staff,
                    purpose=actor.purpose,
                    expires_at_ms=now_ms + order.hours * 3_600_000,
                    request_key=order.key or None,
                    **columns,
                )
        return self.read(number)

    def approve(self, actor: StaffActor, number: int, now_ms: int) -> CommandRow:
        """Approve a command that another person requested, and queue it. Raises: CommandRefusedError."""
        row = self._viewable(actor, number, now_ms)
        if row.state != "waiting for approval" or (row.expires_at_ms or 0) <= now_ms:
            raise CommandConflictError(f"command {number} is not waiting for approval: it is {row.state}")
        resource = find_instrument(self.store, row.box, row.instrument)
        if resource is None:
            raise CommandRefusedError(f"the instrument {row.instrument} of command {number} does not exist")
        change = _change(row, resource)
        try:
            approval = approve(self.access, change, actor.staff, RequestContext(now_ms, actor.purpose))
            _require(decide_change(self.access, change, approval, now_ms))
        except NotApproved as refused:
            raise CommandRefusedError(str(refused)) from None
        is_waiting = and_(commands.c.id == number, commands.c.state == "waiting for approval")
        values = {
            "state": "queued",
            "approved_by": actor.staff,
            "approved_at_ms": now_ms,
            "due_at_ms": now_ms,
        }
        with self.store.transaction() as connection:
            connection.execute(update(commands).where(is_waiting).values(**values))
        return self.read(number)

    def withdraw(self, actor: StaffActor, number: int, now_ms: int) -> CommandRow:
        """Withdraw a command, unless it has begun; a withdrawn command is unchanged. Raises: CommandRefusedError."""
        row = self._viewable(actor, number, now_ms)
        _require(self._decide(actor, "withdraw-command", row.resource, now_ms))
        if "withdrawn" in (row.state, row.ending):
            return row
        if row.state not in WITHDRAWABLE:
            raise CommandConflictError(f"command {number} cannot be withdrawn: it is {row.state}")
        self.store.withdraw_command(number, now_ms)
        return self.read(number)

    def show(self, actor: StaffActor, number: int, now_ms: int) -> CommandRow:
        """Return a command. Raises: CommandRefusedError."""
        return self._viewable(actor, number, now_ms)

    def list_files(
        self,
        actor: StaffActor,
        now_ms: int,
        wanted: CommandFilter = ALL,
        limit: int = LISTED_MAX,
        before: FileKey | None = None,
        after: FileKey | None = None,
    ) -> list[FileRow]:
        """Return complete files of commands, as `list_files` does, if the actor may see both file and command."""
        may_see = [self._where(actor, kind, now_ms) for kind in ("Command", "File")]
        return list_files(self.store, [*may_see, *wanted.clauses], limit, before, after)

    def list(
        self,
        actor: StaffActor,
        now_ms: int,
        wanted: CommandFilter = ALL,
        limit: int = LISTED_MAX,
        before: int | None = None,
        after: int | None = None,
    ) -> list[CommandRow]:
        """Return the commands that the actor may see, as `list_commands` does."""
        which = [self._where(actor, "Command", now_ms), *wanted.clauses]
        return list_commands(self.store, which, limit, before, after)

    def may_withdraw(self, actor: StaffActor, row: CommandRow, now_ms: int) -> bool:
        """Return whether to offer the withdrawal; not recorded."""
        return row.is_withdrawable and self._peek(actor, "withdraw-command", row.resource, now_ms)

    def may_approve(self, actor: StaffActor, row: CommandRow, now_ms: int) -> bool:
        """Return whether to offer the approval; not recorded."""
        if row.state != "waiting for approval" or (row.expires_at_ms or 0) <= now_ms:
            return False
        change = _change(row, replace(row.resource, kind="Instrument", id=row.instrument, requester=""))
        return self._peek(actor, "approve", change.as_resource, now_ms)

    def may_download(self, actor: StaffActor, row: CommandRow, now_ms: int) -> bool:
        """Return whether to offer the download of a command's file; not recorded."""
        is_stored = row.file_stored_at_ms is not None
        return is_stored and self._peek(actor, "download-file", row.file_resource, now_ms)

    def may_send(self, actor: StaffActor, verb: Verb, instrument: Resource, now_ms: int) -> bool:
        """Return whether to offer a command, to be approved by a second person if it is dangerous; not recorded."""
        if verb not in verbs_of(instrument.model):
            return False
        context = _with_approval(VERB_ACTIONS[verb], RequestContext(now_ms, actor.purpose))
        return self.access.peek(actor.staff, VERB_ACTIONS[verb], instrument, context).permitted

    def download(self, actor: StaffActor, number: int, now_ms: int) -> StoredFile:
        """Return the complete file of a command. Raises: CommandRefusedError."""
        row = self._viewable(actor, number, now_ms)
        _require(self._decide(actor, "download-file", row.file_resource, now_ms))
        size = self.archive.size(row.file) if row.file else None
        if row.file is None or size is None:
            raise CommandConflictError(f"command {number} has no complete file")
        return StoredFile(self.archive, row.file, size, row.download_name)

    def read(self, number: int) -> CommandRow:
        """Return a command without a check of rights. Raises: CommandRefusedError."""
        row = find_command_row(self.store, number)
        if row is None:
            raise CommandRefusedError(f"there is no command {number}")
        return row

    def _viewable(self, actor: StaffActor, number: int, now_ms: int) -> CommandRow:
        """Return a command that the actor may see; otherwise it does not exist for them."""
        row = self.read(number)
        if not self._decide(actor, "view", row.resource, now_ms).permitted:
            raise CommandRefusedError(f"there is no command {number}")
        return row

    def _require_right(self, actor: StaffActor, action: str, resource: Resource, now_ms: int) -> Decision:
        """Record the decision, and require the right; a dangerous action is treated as approved."""
        decision = self._decide(actor, action, resource, now_ms)
        if action in members("four-eyes"):
            context = _with_approval(action, RequestContext(now_ms, actor.purpose))
            decision = self.access.peek(actor.staff, action, resource, context)
        _require(decision)
        return decision

    def _resource(self, actor: StaffActor, box: str, instrument: str, now_ms: int) -> Resource:
        resource = find_instrument(self.store, box, instrument)
        if resource is None or not self._decide(actor, "view", resource, now_ms).permitted:
            raise CommandRefusedError(f"there is no instrument {instrument} at box {box}")
        return resource

    def _where(self, actor: StaffActor, kind: str, now_ms: int) -> ColumnElement[bool]:
        context = RequestContext(now_ms, actor.purpose)
        return self.access.where(actor.staff, "view", kind, context, COLUMNS[kind])

    def _peek(self, actor: StaffActor, action: str, resource: Resource, now_ms: int) -> bool:
        context = RequestContext(now_ms, actor.purpose)
        return self.access.peek(actor.staff, action, resource, context).permitted

    def _decide(self, actor: StaffActor, action: str, resource: Resource, now_ms: int) -> Decision:
        return self.access.decide(actor.staff, action, resource, RequestContext(now_ms, actor.purpose))


def is_dangerous(verb: Verb) -> bool:
    """Return whether a second person must approve commands with this verb."""
    return VERB_ACTIONS[verb] in members("four-eyes")


def verbs_of(model: str) -> list[Verb]:
    """Return the commands that instruments of a model support; none for an unknown model."""
    try:
        return load_profile(model).verbs
    except SettingsError:
        return []


def _check_order(model: str, order: CommandOrder) -> None:
    """Check a command for instruments of a model. Raises: WrongCommandError."""
    verb, verbs = order.verb, verbs_of(model)
    if verb not in verbs:
        known = ", ".join(verbs) or "none"
        raise WrongCommandError(
            f"instruments of the model {model or 'unknown'} do not support {verb}; they support: {known}"
        )
    if verb in DOWN_VERBS and (order.file is None or not order.file.content.seek(0, os.SEEK_END)):
        raise WrongCommandError(f"{verb} needs a file that is not empty")
    if verb not in DOWN_VERBS and order.file is not None:
        raise WrongCommandError(f"{verb} takes no file")
    if not 1 <= order.hours <= EXPIRES_HOURS_MAX:
        raise WrongCommandError(f"a command expires after 1 to {EXPIRES_HOURS_MAX} hours")
    if order.key and not (len(order.key) <= REQUEST_KEY_CHARACTERS_MAX and order.key.isprintable()):
        raise WrongCommandError(
            f"the key of a request has at most {REQUEST_KEY_CHARACTERS_MAX} printable characters"
        )


def _number_of(
    connection: Connection, staff: str, order: CommandOrder, target: tuple[str, str, str | None]
) -> int | None:
    """Return the command of an earlier request with the same key; None if there is none.

    `target` is the box, the instrument and the file. Raises: CommandConflictError if that command differs.
    """
    if not order.key:
        return None
    earlier = and_(commands.c.requester == staff, commands.c.request_key == order.key)
    row = connection.execute(select(commands).where(earlier)).first()
    if row is None:
        return None
    if (row.verb, row.box, row.instrument, row.file) != (order.verb, *target):
        raise CommandConflictError(
            f"the key {order.key} was used for command {row.id}, which differs from this request: use a new key"
        )
    return int(row.id)


def _cleaned(name: str) -> str:
    """Return the name of a file without folders and unprintable characters, shortened at the beginning."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(filter(str.isprintable, last)).strip()[-FILE_NAME_CHARACTERS_MAX:]


def _with_approval(action: str, context: RequestContext) -> RequestContext:
    """Return the context; for a dangerous action as if a second person had approved it."""
    if action not in members("four-eyes"):
        return context
    return replace(context, approval=Approval(SECOND_PERSON, context.now_ms + APPROVAL_MS))


def _change(row: CommandRow, resource: Resource) -> PendingChange:
    """Return the command as a change that a second person approves."""
    action, content = VERB_ACTIONS[row.verb], row.file or ""
    return PendingChange(
        str(row.id), row.requester, action, resource, row.purpose, content, row.created_at_ms
    )


def _require(decision: Decision) -> None:
    if not decision.permitted:
        raise CommandRefusedError(decision.reason)
