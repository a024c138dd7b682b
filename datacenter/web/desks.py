"""Commands, rollouts, enrolments and remote sessions for pages and API, with the caller's rights.

The errors of these services are translated into those of `datacenter.web.routes` and `datacenter.web.parameters`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from datacenter.access.request import Principal
from datacenter.commands.desk import CommandConflictError, CommandDesk, CommandRefusedError, WrongCommandError
from datacenter.commands.files import FileArchive
from datacenter.enrolment.desk import (
    EnrolmentConflictError,
    EnrolmentDesk,
    EnrolmentRefusedError,
    UnknownInstrumentError,
    WrongEnrolmentError,
)
from datacenter.releases.desk import (
    RolloutConflictError,
    RolloutDesk,
    RolloutRefusedError,
    WrongRolloutError,
)
from datacenter.releases.folder import EMPTY
from datacenter.sessions.requests import (
    SessionConflictError,
    SessionRefusedError,
    SessionRequester,
    SessionRequests,
    WrongSessionError,
)
from datacenter.web.parameters import ParameterError
from datacenter.web.routes import ConflictError, NotFoundError, PageRequest, RefusedError


@contextmanager
def command_desk(page: PageRequest) -> Iterator[CommandDesk]:
    """Yield the command desk with the caller's rights. Raises: ParameterError, ConflictError, RefusedError."""
    try:
        yield CommandDesk(page.store, FileArchive(page.store), page.access)
    except WrongCommandError as error:
        raise ParameterError(str(error)) from error
    except CommandConflictError as error:
        raise ConflictError(str(error)) from error
    except CommandRefusedError as error:
        raise RefusedError(str(error)) from error


@contextmanager
def rollout_desk(page: PageRequest) -> Iterator[RolloutDesk]:
    """Yield the rollout desk with the caller's rights. Raises: ParameterError, ConflictError, RefusedError."""
    folder = page.services.releases
    try:
        yield RolloutDesk(page.store, folder.current if folder else EMPTY, page.access, page.visible.purpose)
    except WrongRolloutError as error:
        raise ParameterError(str(error)) from error
    except RolloutConflictError as error:
        raise ConflictError(str(error)) from error
    except RolloutRefusedError as error:
        raise RefusedError(str(error)) from error


@contextmanager
def enrolment_desk(page: PageRequest) -> Iterator[EnrolmentDesk]:
    """Yield the enrolment desk with the caller's rights.

    Raises: ParameterError, ConflictError, NotFoundError, RefusedError.
    """
    try:
        # a program has the purpose of its token, a person the purpose that a decision requires
        purpose = page.visible.purpose if page.visible.token else None
        yield EnrolmentDesk(page.store, page.access, purpose)
    except WrongEnrolmentError as error:
        raise ParameterError(str(error)) from error
    except EnrolmentConflictError as error:
        raise ConflictError(str(error)) from error
    except UnknownInstrumentError as error:
        raise NotFoundError from error
    except EnrolmentRefusedError as error:
        raise RefusedError(str(error)) from error


@contextmanager
def session_requests(page: PageRequest) -> Iterator[SessionRequests]:
    """Yield the session requests with the caller's rights. Raises: ParameterError, ConflictError, RefusedError."""
    try:
        yield SessionRequests(page.store, page.access, page.services.remote)
    except WrongSessionError as error:
        raise ParameterError(str(error)) from error
    except SessionConflictError as error:
        raise ConflictError(str(error)) from error
    except SessionRefusedError as error:
        raise RefusedError(str(error)) from error


def session_caller(page: PageRequest) -> SessionRequester:
    """Return the caller of remote sessions; the rights are looked up again during a session."""

    def find_principal() -> Principal | None:
        person = page.find_person()
        return person.principal if person else None

    return SessionRequester(page.staff, page.visible.purpose, find_principal, page.visible.token)
