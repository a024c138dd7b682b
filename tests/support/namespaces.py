"""Network namespaces for tests.

`with namespace() as box:` creates a namespace without a name, which a file descriptor keeps open; its sockets can be
used in every thread. `with own_network():` moves the calling thread into a new namespace.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Interface
from typing import Any, TypeVar

from tests.support.eventually import WAIT_SECONDS_MAX, poll_until

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def unshare(kinds: int) -> None:
    """unshare(2): give the calling thread new namespaces. Raises: OSError."""
    if _LIBC.unshare(kinds) != 0:
        raise OSError(ctypes.get_errno(), "unshare; these tests must be run as root")


def _enter(fd: int) -> None:
    if _LIBC.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def in_thread(act: Callable[[], T]) -> T:
    """Call `act` in a new thread and return its result; the caller's namespace is unchanged."""
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            results.append(act())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


@dataclass(frozen=True)
class Namespace:
    """One network namespace."""

    fd: int

    @property
    def path(self) -> str:
        """A path for `ip link … netns`, valid during the life of this process."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def run(self, act: Callable[[], T]) -> T:
        """Call `act` in this namespace and return its result."""

        def inside() -> T:
            _enter(self.fd)
            return act()

        return in_thread(inside)

    def wrap(self, *command: str) -> tuple[str, ...]:
        """Return the command that runs `command` in this namespace."""
        return ("nsenter", f"--net={self.path}", *command)

    def command(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in this namespace; `options` are those of `subprocess.run`."""
        return subprocess.run(self.wrap(*command), check=True, text=True, **options)

    def ip(self, *commands: str) -> None:
        """Run these commands of ip(8) in this namespace, and wait until IPv6 addresses that they add are reachable.

        Linux adds the local route of an IPv6 address in a work queue, after the command that adds the address has
        ended (addrconf_dad_completed() in net/ipv6/addrconf.c).
        """
        self.command("ip", "-batch", "-", input="".join(f"{command}\n" for command in commands))
        split = [command.split() for command in commands]
        added = {
            str(IPv6Interface(parts[2]).ip)
            for parts in split
            if parts[:2] == ["addr", "add"] and ":" in parts[2]
        }
        if added:
            poll_until(lambda: added.isdisjoint(self._without_local_route()))

    def _without_local_route(self) -> set[str]:
        """Return the IPv6 addresses without a local route on interfaces with carrier."""

        def read(*arguments: str) -> list[dict[str, Any]]:
            listing = self.command("ip", "-6", "-json", *arguments, capture_output=True).stdout
            return list(json.loads(listing or "[]"))

        interfaces = [link for link in read("addr", "show", "up") if "LOWER_UP" in link["flags"]]
        addresses = {address["local"] for link in interfaces for address in link["addr_info"]}
        return addresses - {route["dst"] for route in read("route", "show", "table", "local")}

    def enter(self) -> None:
        """Move this thread into the namespace."""
        _enter(self.fd)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Return a socket in this namespace."""
        return self.run(lambda: socket.socket(family, kind, protocol))

    def write(self, setting: str, value: object) -> None:
        """Set a value under /proc/sys/net."""

        def act() -> None:
            with open(f"/proc/sys/net/{setting}", "w") as file:  # noqa: PTH123
                file.write(str(value))

        self.run(act)


class NamespaceThread:
    """An event loop in a thread that has entered a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace, self.loop = namespace, asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._namespace.enter()
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine in the event loop of the thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop of the thread, and return its result."""
        return self.start(work).result(WAIT_SECONDS_MAX)

    def stop(self) -> None:
        """End the loop and the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@contextmanager
def namespace() -> Iterator[Namespace]:
    """Create a namespace with its loopback interface up; it is removed at the end of the context."""

    def make() -> int:
        unshare(CLONE_NEWNET)
        return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    created = Namespace(in_thread(make))
    try:
        created.ip("link set lo up")
        yield created
    finally:
        os.close(created.fd)


@contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """Create several namespaces."""
    with ExitStack() as stack:
        yield [stack.enter_context(namespace()) for _ in range(count)]


def cable(one: Namespace, name: str, other: Namespace, other_name: str) -> None:
    """Connect two namespaces by a veth pair, both ends up, without duplicate address detection."""
    one.ip(f"link add {name} type veth peer name {other_name} netns {other.path}")
    for network, interface in ((one, name), (other, other_name)):
        network.write(f"ipv6/conf/{interface}/accept_dad", 0)
        network.ip(f"link set {interface} up")


@contextmanager
def own_network() -> Iterator[None]:
    """Put the calling thread into an empty network namespace while the context lasts."""
    with open("/proc/thread-self/ns/net") as outside:  # noqa: PTH123
        unshare(CLONE_NEWNET)
        try:
            yield
        finally:
            _enter(outside.fileno())
