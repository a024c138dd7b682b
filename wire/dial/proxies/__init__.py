"""The client's side of each proxy kind, without I/O; a kind in `settings.types` has the name of its module."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from settings.types import Proxy
from wire.dial.proxy import Conversation


def proxy_conversation(proxy: Proxy, host: str, port: int) -> Conversation:
    """Return the conversation that makes `proxy` connect to `host`:`port`. It raises ProxyError."""
    module = import_module(f"{__name__}.{proxy.kind}")
    return cast("Conversation", module.conversation(proxy, host, port))
