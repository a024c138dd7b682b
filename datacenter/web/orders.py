"""What pages and API share for commands: the desk with the rights of the caller, and the answers to its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from datacenter.commands.desk import CommandConflictError, CommandDesk, CommandRefusedError, WrongCommandError
from datacenter.commands.files import FileArchive
from datacenter.web.parameters import ParameterError
from datacenter.web.routes import ConflictError, PageRequest, RefusedError


@contextmanager
def command_desk(page: PageRequest) -> Iterator[CommandDesk]:
    """The desk with the caller's rights. Raises: ParameterError, ConflictError, RefusedError."""
    try:
        yield CommandDesk(page.store, FileArchive(page.store), page.access)
    except WrongCommandError as error:
        raise ParameterError(str(error)) from error
    except CommandConflictError as error:
        raise ConflictError(str(error)) from error
    except CommandRefusedError as error:
        raise RefusedError(str(error)) from error
