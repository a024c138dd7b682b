"""rtnetlink(7) of one network namespace, for code that an event loop is running.

pyroute2's synchronous calls run an event loop of their own, which Python forbids in a thread whose loop is
running. So a thread that lives in the namespace makes them; a call takes about 0.2 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from pyroute2 import IPRoute

from sim.worlds.kernel.namespaces import syscalls

_NO_DUPLICATE_DETECTION: Final = 0x02  # IFA_F_NODAD of <linux/if_addr.h>; see RFC 4862, 5.4


class Netlink:
    """Asks the kernel about a network namespace, a file descriptor. NetlinkError's `code` is the errno."""

    def __init__(self, network: int) -> None:
        self._thread = ThreadPoolExecutor(1, "netlink", syscalls.enter, (network,))
        self._socket: IPRoute = self._thread.submit(IPRoute).result()

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
        """Give an interface an address, which can be used at once: nobody asks first whether it is taken."""
        self._do(
            self._socket.addr,
            "add",
            index=index,
            address=address,
            prefixlen=prefix,
            flags=_NO_DUPLICATE_DETECTION,
        )

    def remove_address(self, index: int, address: str, prefix: int) -> None:
        """Take an address from an interface, and with the last one of a subnet the routes through it."""
        self._do(self._socket.addr, "delete", index=index, address=address, prefixlen=prefix)

    def replace_route(self, *, congestion: str | None = None, **route: Any) -> None:
        """Add a route, or change the one to that destination; TCP uses that congestion control over it, if given."""
        if congestion is not None:
            route["metrics"] = {"cc_algo": congestion}
        self._do(self._socket.route, "replace", **route)

    def add_route(self, **route: Any) -> None:
        """Add a route."""
        self._do(self._socket.route, "add", **route)

    def _do(self, call: Callable[..., Any], *args: Any, **attributes: Any) -> Any:
        return self._thread.submit(lambda: _listed(call(*args, **attributes))).result()


def _listed(answer: Any) -> Any:
    """Some answers are generators, which must be exhausted where they were asked for."""
    return answer if isinstance(answer, tuple | list) else list(answer)
