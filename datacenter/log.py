"""The log of the data center's program on standard error: text, or one JSON object per line.

Messages and the positions in tracebacks are written. The texts of exceptions that are logged with their traceback,
and lines that the event loop adds, are omitted: they quote values, which can be content of reports.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

LogFormat: TypeAlias = Literal["text", "json"]
LogLevel: TypeAlias = Literal["info", "warning", "error"]
MESSAGE_CHARACTERS_MAX: Final = 2000
FRAMES_MAX: Final = 50
_WITH_URLS: Final = ("httpx", "httpcore")
"""Their messages contain URLs, which can contain secrets."""


def start_log(kind: LogFormat, level: LogLevel) -> None:
    """Start the log of this process, unless logging is already configured."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if kind == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper())
    for name in _WITH_URLS:
        logging.getLogger(name).setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, `exception` (if any)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if error := _error(record):
            line["exception"] = {"type": _kind(error), "stack": list(_frames(error))}
        return msgspec.json.encode(line).decode()


class TextFormatter(logging.Formatter):
    """`rap: MESSAGE`, with the level if it is a warning or an error, and the positions of a traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, and below it the positions of the traceback if there is one."""
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in _message(record))
        lines = [f"rap: {level}{message}"]
        if error := _error(record):
            lines += [f"  {_kind(error)}", *(f"    {frame}" for frame in _frames(error))]
        return "\n".join(lines)


def _message(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except (TypeError, ValueError):
        message = str(record.msg)  # the arguments do not match the format
    if record.name == "asyncio":
        message = message.partition("\n")[0]  # representations of tasks and their exceptions follow
    return message.strip()[:MESSAGE_CHARACTERS_MAX]


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _kind(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _frames(error: BaseException) -> Iterator[str]:
    """Yield the positions of a traceback, the innermost last, without source lines and values."""
    for frame in traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]:
        yield f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
