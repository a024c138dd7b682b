"""A host: a network, a mount and a UTS namespace, and the programs that run there.

The namespaces are created by a thread that then ends; file descriptors keep them alive. A program sees its host's
network in /sys and /proc/sys, its host name, and the lab's files. `ip netns exec NAME` works inside the lab.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from ipaddress import ip_interface
from pathlib import Path
from threading import Thread
from typing import Final

from sim.worlds.kernel.namespaces import files, syscalls
from sim.worlds.kernel.namespaces.netlink import Netlink
from sim.worlds.kernel.namespaces.process import LabProcess

_PATH: Final = "/usr/sbin:/sbin"
_SIOCETHTOOL: Final = 0x8946
# <linux/ethtool.h>: checksum offload, scatter-gather, TSO, GSO and GRO. Without them each packet on the link is an
# ordinary packet with a valid checksum, as on a cable.
_ETHTOOL_SWITCHES: Final = (0x17, 0x15, 0x19, 0x1F, 0x24, 0x2C)

TCP_SETTINGS: Final = {
    "tcp_rmem": "4096 131072 6291456",
    "tcp_wmem": "4096 16384 4194304",
    "tcp_syn_linear_timeouts": "0",  # since Linux 6.5; RHEL 9 has 5.14
}
"""The values of RHEL 9 in net.ipv4, so that a lab does not depend on the settings of the machine."""
CONGESTION_CONTROL: Final = "cubic"
"""Linux's own default. It is set on each route, since a network namespace inherits the machine's algorithm and may
choose only among those that the machine allows to all users."""


class NamespaceHost:
    """One host of the lab. It has only the loopback interface until a link is attached."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.addresses: dict[str, str] = {}
        """The current address of each interface, with its prefix length."""
        self._namespaces: dict[str, int] = {}
        self._processes = 0
        failures: list[BaseException] = []
        creator = Thread(target=self._create_namespaces, args=(failures,))
        creator.start()
        creator.join()
        if failures:
            raise failures[0]
        self.netlink = Netlink(self.network)
        self.netlink.set_interface(self.netlink.index("lo"), state="up")
        self._set_tcp(TCP_SETTINGS)

    def _set_tcp(self, settings: Mapping[str, str]) -> None:
        with self.inside():
            for name, value in settings.items():
                file = Path("/proc/sys/net/ipv4") / name
                if file.exists():
                    file.write_text(value)

    def _create_namespaces(self, failures: list[BaseException]) -> None:
        try:
            syscalls.unshare(syscalls.NEW_FS | syscalls.NEW_NET)
            files.name_network(self.name)
            syscalls.unshare(syscalls.NEW_MOUNTS | syscalls.NEW_UTS)
            files.mount_host_files()
            socket.sethostname(self.name)
            self._namespaces.update((kind, syscalls.namespace(kind)) for kind in ("net", "mnt", "uts"))
        except BaseException as error:
            failures.append(error)

    @property
    def network(self) -> int:
        """A file descriptor of its network namespace."""
        return self._namespaces["net"]

    @property
    def namespaces(self) -> Mapping[str, int]:
        """Its namespaces, "net", "mnt" and "uts", as file descriptors."""
        return self._namespaces

    def inside(self) -> AbstractContextManager[None]:
        """Return a context manager that moves the calling thread into this host's network; await nothing inside.

        Sockets created inside stay in that network.
        """
        return syscalls.inside(self.network)

    def address(self, interface: str, address: str) -> None:
        """Add an address with its prefix length to an interface: "10.0.0.1/24", "fd00::1/64"."""
        self.addresses[interface] = address
        ip, _, prefix = address.partition("/")
        index = self.netlink.index(interface)
        self.netlink.add_address(index, ip, int(prefix))
        if ":" not in ip:
            network = str(ip_interface(address).network)
            self.netlink.replace_route(
                dst=network,
                oif=index,
                prefsrc=ip,
                scope="link",
                proto="kernel",
                congestion=CONGESTION_CONTROL,
            )

    def change_address(self, interface: str, address: str, gateway: str) -> None:
        """Replace the address of an interface, and set the default route again."""
        ip, _, prefix = self.addresses[interface].partition("/")
        self.netlink.remove_address(self.netlink.index(interface), ip, int(prefix))
        self.address(interface, address)
        self.netlink.replace_route(dst="default", gateway=gateway)

    def route(self, destination: str, via: str) -> None:
        """Set the route to `destination` ("10.1.0.0/16", "default") through the router `via`."""
        self.netlink.replace_route(dst=destination, gateway=via, congestion=CONGESTION_CONTROL)

    def sysctl(self, name: str, value: int | str) -> None:
        """Set a sysctl of this host's network: "net.ipv4.ip_forward"."""
        with self.inside():
            (Path("/proc/sys") / name.replace(".", "/")).write_text(str(value))

    def plain_packets(self, interface: str) -> None:
        """Turn off the interface's offloads, so that it sends ordinary packets only."""
        with self.inside():
            send_plain_packets(interface)

    def spawn(self, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> LabProcess:
        """Start a program in this host, with its output in a separate log file. Needs a running event loop.

        `env` is added to the supervisor's environment. A program that does not exist ends with exit status 127, as in
        a shell, and the reason is in its log.
        """
        self._processes += 1
        log = files.FOLDER / "log" / f"{self.name}-{self._processes}-{Path(argv[0]).name}.log"
        log.parent.mkdir(exist_ok=True)
        enter = [f"--{option}=/proc/self/fd/{self._namespaces[kind]}" for option, kind in _OPTIONS.items()]
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["nsenter", *enter, f"--wd={files.FOLDER}", "--", *map(str, argv)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=files.FOLDER,
                env={**_environment(), **(env or {})},
                pass_fds=tuple(self._namespaces.values()),
            )
        return LabProcess(process, log)


_OPTIONS: Final = {"net": "net", "mount": "mnt", "uts": "uts"}
"""nsenter's option for each namespace."""


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{_PATH}"}


def send_plain_packets(interface: str) -> None:
    """Turn off the offloads of an interface of the calling thread's network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for switch in _ETHTOOL_SWITCHES:
            value = ctypes.create_string_buffer(struct.pack("=II", switch, 0))
            request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
