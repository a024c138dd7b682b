"""rtnetlink(7) of one network namespace, for code that an event loop is running.

pyroute2's synchronous calls run an event loop of their own, which Python forbids in a thread whose loop is
running. So all of them are made by one thread beside it; a call takes about 0.2 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from pyroute2 import IPRoute

from sim.worlds.kernel import syscalls

_thread: Final = ThreadPoolExecutor(1, "netlink")


class Netlink:
    """Asks the kernel about a network namespace, a file descriptor. NetlinkError's `code` is the errno."""

    def __init__(self, network: int) -> None:
        self._socket: IPRoute = _thread.submit(_open, network).result()

    def index(self, interface: str) -> int:
        """The kernel's number of an interface. Raises KeyError if there is none of that name."""
        found = self._do(self._socket.link_lookup, ifname=interface)
        if not found:
            raise KeyError(f"there is no interface {interface!r} here")
        return int(found[0])

    def add_interface(self, kind: str, name: str, **attributes: Any) -> None:
        """Make an interface of that kind."""
        self._do(self._socket.link, "add", kind=kind, ifname=name, **attributes)

    def set_interface(self, index: int, **attributes: Any) -> None:
        """Change an interface: `state="up"`, `master=3`, …"""
        self._do(self._socket.link, "set", index=index, **attributes)

    def add_address(self, index: int, address: str, prefix: int) -> None:
        """Give an interface an address."""
        self._do(self._socket.addr, "add", index=index, address=address, prefixlen=prefix)

    def add_route(self, **route: Any) -> None:
        """Add a route."""
        self._do(self._socket.route, "add", **route)

    def _do(self, call: Callable[..., Any], *args: Any, **attributes: Any) -> Any:
        return _thread.submit(lambda: _listed(call(*args, **attributes))).result()


def _open(network: int) -> IPRoute:
    with syscalls.inside(network):
        return IPRoute()


def _listed(answer: Any) -> Any:
    """Some answers are generators, which must be exhausted where they were asked for."""
    return answer if isinstance(answer, tuple | list) else list(answer)
