"""Network namespaces of the tests' own, removed with the last thing that is in them.

`with namespace() as here:` makes one beside the caller's; it has no name, is kept by a file descriptor, and its
sockets, once made, work from every thread. `with own_network():` moves the calling thread into one.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

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
    """The result of `act` in a thread of its own; the caller's namespace is not touched."""
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
        """For `ip link … netns`; good while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def run(self, act: Callable[[], T]) -> T:
        """The result of `act`, done in here."""

        def inside() -> T:
            _enter(self.fd)
            return act()

        return in_thread(inside)

    def words(self, *words: str) -> tuple[str, ...]:
        """A command that is this one in here."""
        return ("nsenter", f"--net={self.path}", *words)

    def command(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in here, to its end."""
        return subprocess.run(self.words(*words), check=True, text=True, **more)

    def ip(self, *commands: str) -> None:
        """Run these commands of ip(8) in here."""
        self.command("ip", "-batch", "-", input="".join(f"{command}\n" for command in commands))

    def enter(self) -> None:
        """Go in, with this thread, for good."""
        _enter(self.fd)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket in here."""
        return self.run(lambda: socket.socket(family, kind, protocol))

    def write(self, setting: str, value: object) -> None:
        """Set a value under /proc/sys/net."""

        def act() -> None:
            with open(f"/proc/sys/net/{setting}", "w") as file:  # noqa: PTH123
                file.write(str(value))

        self.run(act)


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A new namespace, its loopback up; what is in it goes when it ends."""

    def make() -> int:
        unshare(CLONE_NEWNET)
        return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    made = Namespace(in_thread(make))
    try:
        made.ip("link set lo up")
        yield made
    finally:
        os.close(made.fd)


@contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """Several at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(namespace()) for _ in range(count)]


def cable(one: Namespace, name: str, other: Namespace, name_there: str) -> None:
    """A veth pair from one to the other, both ends up, and without duplicate address detection."""
    one.ip(f"link add {name} type veth peer name {name_there} netns {other.path}")
    for place, end in ((one, name), (other, name_there)):
        place.write(f"ipv6/conf/{end}/accept_dad", 0)
        place.ip(f"link set {end} up")


@contextmanager
def own_network() -> Iterator[None]:
    """Put the calling thread into an empty network namespace while the context lasts."""
    with open("/proc/thread-self/ns/net") as outside:  # noqa: PTH123
        unshare(CLONE_NEWNET)
        try:
            yield
        finally:
            _enter(outside.fileno())
