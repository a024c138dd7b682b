"""The client's side of each kind of proxy, without I/O. `Proxy.kind` is the name of the module that implements it."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from settings.types import Proxy
from wire.dial.proxy import Conversation


def proxy_conversation(proxy: Proxy, host: str, port: int) -> Conversation:
    """Return the conversation that makes `proxy` connect to `host`:`port`, and raises ProxyError if it does not."""
    module = import_module(f"{__name__}.{proxy.kind}")
    return cast("Conversation", module.conversation(proxy, host, port))
