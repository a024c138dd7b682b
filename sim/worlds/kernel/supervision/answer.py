"""What comes of a lab, on its way to whoever started it: a value or an exception, through a pipe."""

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
    """The lab ended before it said what came of it: somebody killed it, or it ran out of memory."""


class Answer:
    """The supervisor's end of the pipe. Only the first answer counts."""

    def __init__(self, pipe: int) -> None:
        self._pipe: int | None = pipe

    def up(self) -> None:
        """The lab is up, and goes on."""
        self._send(_UP)

    def value(self, value: object) -> None:
        """The lab ended with this."""
        try:
            self._send(_whole(pickle.dumps((True, value))))
        except Exception as error:  # whatever a value's own __reduce__ and __setstate__ may raise
            self.error(TypeError(f"what a lab returns must be picklable: {error!r}"))

    def error(self, error: BaseException) -> None:
        """The lab ended with this exception."""
        story = "".join(traceback.format_exception(error))
        if self._pipe is None:
            os.write(2, story.encode())
            return
        error.add_note(f"in the lab:\n{story}")
        try:
            data = _whole(pickle.dumps((False, error)))
        except Exception:  # as above
            data = pickle.dumps((False, LabEnded(story)))
        self._send(data)

    def _send(self, data: bytes) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            with suppress(BrokenPipeError), os.fdopen(pipe, "wb") as stream:
                stream.write(data)


def _whole(data: bytes) -> bytes:
    """The pickled data, if it can be read again."""
    pickle.loads(data)  # noqa: S301
    return data


def receive(name: str, pipe: int, seconds_max: float | None = None) -> Any:
    """What the lab came to, or True if it is up and goes on; raise what it raised.

    Raises LabEnded, and Stalled when nothing has come for `seconds_max`.
    """
    if not select.select([pipe], [], [], seconds_max)[0]:
        raise Stalled(
            f"the lab {name!r} gave no answer for {seconds_max:.0f} s, and was killed: it does not run"
        )
    with os.fdopen(pipe, "rb", closefd=False, buffering=0) as stream:
        data = stream.read()
    if data == _UP:
        return True
    if not data:
        raise LabEnded(f"the lab {name!r} ended before its time: it was killed")
    succeeded, value = pickle.loads(data)  # noqa: S301
    if succeeded:
        return value
    raise value
