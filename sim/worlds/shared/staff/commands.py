"""Commands of a lab file, as the data center's staff would queue them."""

from __future__ import annotations

from datacenter.commands.files import FileArchive
from datacenter.store.store import Store
from settings.profile import Verb
from wire.files import FileReference
from wire.messages import encode


def queue_command(
    store: Store,
    box: str,
    instrument: str,
    verb: Verb,
    content: bytes,
    now_ms: int,
    expires_after_ns: int | None,
) -> int:
    """Queue a command with a file, or without one if `content` is empty; return its number."""
    columns: dict[str, object] = {}
    body = b""
    if expires_after_ns is not None:
        columns["expires_at_ms"] = now_ms + expires_after_ns // 1_000_000
    if content:
        sha256 = FileArchive(store).keep(content, now_ms)
        columns |= {"file": sha256, "file_bytes": len(content)}
        body = encode(FileReference(sha256, len(content)))
    return store.queue_command(box, instrument, verb, body, now_ms, **columns)
