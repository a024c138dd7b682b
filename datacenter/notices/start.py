"""The sender of notices, from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from secrets import token_hex

from datacenter.config import NoticesConfig
from datacenter.notices.sender import NoticeSender
from datacenter.notices.targets import read_targets
from datacenter.notices.transports import TransportOfTarget
from datacenter.store.store import Store


def make_sender(
    notices: NoticesConfig, store: Store, executor: Executor | None, now_ms: Callable[[], int]
) -> NoticeSender:
    """Return the sender of this process. Raises: SettingsError for the file of targets."""
    targets = read_targets(notices.targets)
    process = token_hex(8)
    return NoticeSender(store, targets, TransportOfTarget(), process, now_ms, executor, notices.link)
