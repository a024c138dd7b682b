# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Interface speed through the ethtool ioctl (linux/ethtool.h)."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from typing import Final

_SIOCETHTOOL: Final = 0x8946
_GSET: Final = 1
_IFREQ: Final = struct.Struct("@16sP16x")
"""Interface name, and a pointer to the command (net/if.h)."""
_COMMAND: Final = struct.Struct("=III H 14x H 14x")
"""struct ethtool_cmd: command, supported, advertising, the lower half of the speed, …, the upper half, …"""


def ethtool_speed(interface: str) -> int:
    """Return the speed in Mbit/s as reported by the driver; 0 or 0xFFFFFFFF for "unknown". Raises: OSError."""
    command = array.array("B", _COMMAND.pack(_GSET, 0, 0, 0, 0))
    address, _ = command.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, _IFREQ.pack(interface.encode(), address))
    _, _, _, low, high = _COMMAND.unpack(command)
    return int(low | high << 16)
