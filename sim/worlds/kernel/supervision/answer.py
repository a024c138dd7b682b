"""The result of a lab, a value or an exception, sent through a pipe to the process that started the lab."""

from __future__ import annotations

import os
import pickle
import select
import traceback
from contextlib import suppress
from typing import Any, Final

from sim.engine.stalls import Stalled

_UP: Final = b"up"


class LabEnded(Exception):
    """The lab ended without a result, because it was killed or ran out of memory."""


class SupervisorAnswer:
    """The supervisor's end of the pipe. Only the first answer is sent."""

    def __init__(self, pipe: int) -> None:
        self._pipe: int | None = pipe

    def up(self) -> None:
        """Report that the lab is up and keeps running."""
        self._send(_UP)

    def value(self, value: object) -> None:
        """Send the value with which the lab ended."""
        try:
            self._send(_checked(pickle.dumps((True, value))))
        except Exception as error:  # __reduce__ and __setstate__ of a value may raise anything
            self.error(TypeError(f"the return value of a lab must be picklable: {error!r}"))

    def error(self, error: BaseException) -> None:
        """Send the exception with which the lab ended, or print it if an answer was sent before."""
        trace = "".join(traceback.format_exception(error))
        if self._pipe is None:
            os.write(2, trace.encode())
            return
        error.add_note(f"in the lab:\n{trace}")
        try:
            data = _checked(pickle.dumps((False, error)))
        except Exception:  # as above
            data = pickle.dumps((False, LabEnded(trace)))
        self._send(data)

    def _send(self, data: bytes) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            with suppress(BrokenPipeError), os.fdopen(pipe, "wb") as stream:
                stream.write(data)


def _checked(data: bytes) -> bytes:
    """Return pickled data after checking that it can be unpickled."""
    pickle.loads(data)  # noqa: S301
    return data


def receive(name: str, pipe: int, seconds_max: float | None = None) -> Any:
    """Wait for the answer of a lab; returns its value, or True if it is up and keeps running.

    Raises: the exception of the lab; LabEnded; Stalled if there is no answer within `seconds_max`.
    """
    if not select.select([pipe], [], [], seconds_max)[0]:
        raise Stalled(f"the lab {name!r} gave no answer within {seconds_max:.0f} s, and was killed")
    with os.fdopen(pipe, "rb", closefd=False, buffering=0) as stream:
        data = stream.read()
    if data == _UP:
        return True
    if not data:
        raise LabEnded(f"the lab {name!r} ended without a result")
    succeeded, value = pickle.loads(data)  # noqa: S301
    if succeeded:
        return value
    raise value
