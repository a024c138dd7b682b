"""Questions to the kernel about its interfaces, over netlink (RFC 3549), answered while the caller waits.

pyroute2 has the messages. Its sockets bring an event loop of their own, which cannot run inside ours, so the socket
here is the plain one. The kernel answers before `send` returns: a question costs half a millisecond, nearly all of
it spent on decoding, and never blocks.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, nlmsg
from pyroute2.netlink.rtnl import (
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTMGRP_LINK,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP, ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

_ANSWER_BYTES_MAX = 1 << 17  # more than the kernel puts into one datagram (NLMSG_GOODSIZE is at most 32 KiB)


def link(interface: str) -> Any:
    """The kernel's RTM_NEWLINK message about `interface`. Errors: OSError (ENODEV: there is none)."""
    question = ifinfmsg()
    question["attrs"] = [("IFLA_IFNAME", interface)]
    return _ask(question, RTM_GETLINK)[0]


def set_link_up(interface: str, up: bool) -> None:
    """Set or clear `interface`'s IFF_UP; in force on return. Errors: OSError (ENODEV, EPERM, the driver's)."""
    order = ifinfmsg()
    order["attrs"] = [("IFLA_IFNAME", interface)]
    order["flags"], order["change"] = IFF_UP if up else 0, IFF_UP
    _ask(order, RTM_NEWLINK)


def addresses(interface: str) -> list[Any]:
    """The kernel's RTM_NEWADDR messages about `interface`. Errors: OSError (ENODEV: there is none)."""
    index = link(interface)["index"]
    answers = _ask(ifaddrmsg(), RTM_GETADDR, NLM_F_DUMP)
    return [
        answer for answer in answers if answer["header"]["type"] == RTM_NEWADDR and answer["index"] == index
    ]


def open_link_events() -> socket.socket:
    """A non-blocking socket that is readable when any interface has changed, appeared or gone. Errors: OSError."""
    return _open(RTMGRP_LINK, socket.SOCK_NONBLOCK)


def _open(groups: int = 0, flags: int = 0) -> socket.socket:
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | flags, socket.NETLINK_ROUTE
    )
    opened.bind((0, groups))
    return opened


def _ask(question: nlmsg, kind: int, flags: int = 0) -> list[Any]:
    """All the answers; the kernel ends them with NLMSG_DONE after a dump, and else with the acknowledgement."""
    question["header"]["type"] = kind
    question["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | flags
    question.encode()
    answers: list[Any] = []
    with _open() as kernel:
        kernel.send(question.data)
        while True:
            for answer in MarshalRtnl().parse(kernel.recv(_ANSWER_BYTES_MAX)):
                error = answer["header"]["error"]
                if error:
                    raise OSError(error.code, os.strerror(error.code))
                if answer["header"]["type"] in (NLMSG_DONE, NLMSG_ERROR):
                    return answers
                answers.append(answer)
