"""rtnetlink(7) in a network namespace, callable from code that runs in an event loop.

pyroute2's synchronous calls run another event loop, which Python forbids in a thread whose loop is running.
They are therefore made by a thread in the namespace; a call takes about 0.2 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from pyroute2 import IPRoute

from sim.worlds.kernel.namespaces import syscalls

_NO_DUPLICATE_DETECTION: Final = 0x02  # IFA_F_NODAD of <linux/if_addr.h>; see RFC 4862, 5.4


class Netlink:
    """Interfaces, addresses and routes of a network namespace, given as a file descriptor.

    Raises: NetlinkError, whose `code` is the errno.
    """

    def __init__(self, network: int) -> None:
        self._thread = ThreadPoolExecutor(1, "netlink", syscalls.enter, (network,))
        self._socket: IPRoute = self._thread.submit(IPRoute).result()

    def index(self, interface: str) -> int:
        """Return the index of an interface. Raises: KeyError if it does not exist."""
        indexes = self._do(self._socket.link_lookup, ifname=interface)
        if not indexes:
            raise KeyError(f"there is no interface {interface!r} in this network namespace")
        return int(indexes[0])

    def add_interface(self, kind: str, name: str, **attributes: Any) -> None:
        """Create an interface of a kind such as "veth"."""
        self._do(self._socket.link, "add", kind=kind, ifname=name, **attributes)

    def set_interface(self, index: int, **attributes: Any) -> None:
        """Change an interface: `state="up"`, `master=3`, …"""
        self._do(self._socket.link, "set", index=index, **attributes)

    def add_address(self, index: int, address: str, prefix: int) -> None:
        """Add an address to an interface, usable at once: without duplicate address detection (IPv6)."""
        self._do(
            self._socket.addr,
            "add",
            index=index,
            address=address,
            prefixlen=prefix,
            flags=_NO_DUPLICATE_DETECTION,
        )

    def remove_address(self, index: int, address: str, prefix: int) -> None:
        """Remove an address from an interface; with the last one of a subnet, its routes are removed too."""
        self._do(self._socket.addr, "delete", index=index, address=address, prefixlen=prefix)

    def replace_route(self, *, congestion: str | None = None, **route: Any) -> None:
        """Add or replace a route, optionally with a congestion control algorithm for TCP."""
        if congestion is not None:
            route["metrics"] = {"cc_algo": congestion}
        self._do(self._socket.route, "replace", **route)

    def _do(self, call: Callable[..., Any], *args: Any, **attributes: Any) -> Any:
        return self._thread.submit(lambda: _listed(call(*args, **attributes))).result()


def _listed(answer: Any) -> Any:
    """Convert an answer to a list: generators must be exhausted in the thread of the call."""
    return answer if isinstance(answer, tuple | list) else list(answer)
