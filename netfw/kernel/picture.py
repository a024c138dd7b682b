# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The firewall's own table as the kernel dumps it: every object and rule, byte for byte.

libnftables translates the kernel's objects into JSON and leaves out what it has no words for (comments of sets, table
owners, statements of set elements), and some releases crash on objects that they do not know. The bytes leave out
nothing. A picture that equals the one taken when the policy was known to be in force therefore proves that nothing
was changed, whatever libnftables can read; and reading the dump takes 5 ms with 10,000 addresses, where a listing
takes 150. Tables of others are not read.

Handles, reference counts, counter values and open sessions are not part of a picture. Names of anonymous sets, which
the kernel numbers, are replaced by what these sets contain.
"""

from __future__ import annotations

import errno
import socket
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

from netfw.kernel import netlink
from netfw.kernel.netlink import attribute, attributes
from netfw.ruleset.names import FAMILY, MARK, TABLE

READ_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of one dump; the largest policy's takes 3 MB."""
ATTEMPTS_MAX: Final = 20
"""Somebody may change the ruleset while it is read. Two pictures in a row that are equal count as undisturbed: other
programs may change their own tables all the time.
"""

_SUBSYSTEM: Final = 10 << 8
_GET_TABLE, _GET_CHAIN, _GET_RULE, _GET_SET, _GET_ELEMENT, _GET_GENERATION, _GET_OBJECT, _GET_FLOWTABLE = (
    1,
    4,
    7,
    10,
    13,
    16,
    19,
    23,
)
_INTERRUPTED: Final = 0x10
"""NLM_F_DUMP_INTR: the ruleset changed during the dump."""
_NOT_IN_THIS_KERNEL: Final = (errno.EINVAL, errno.EOPNOTSUPP)

# Attributes by number, from linux/netfilter/nf_tables.h.
_TABLE, _NAME, _ELEMENTS = 1, 2, 3
_TABLE_NAME, _TABLE_FLAGS, _TABLE_OWNER = 1, 2, 7
_CHAIN_NAME: Final = 3
_RULE_CHAIN, _RULE_EXPRESSIONS, _RULE_USERDATA = 2, 4, 7
_SET_FLAGS, _SET_KEY_TYPE, _SET_USERDATA = 3, 4, 13
_OBJECT_TYPE, _OBJECT_DATA = 3, 4
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_DYNSET_STATE, _ELEMENT_STATE = 7, 7
_COUNTER: Final = 1
_COUNTER_BYTES, _COUNTER_PACKETS = 1, 2

_UNSTEADY: Final = {
    "table": {3, 4, 5},  # use, handle, pad
    "chain": {2, 6, 9, 11},  # handle, use, pad, id
    "set": {10, 14, 16, 20},  # id, pad, handle, count
    "object": {4, 5, 6, 7},  # data, use, handle, pad
    "rule": {1, 2, 3, 6, 8, 9},  # table, chain, handle, position, pad, id
    "flowtable": {5, 6, 7},  # use, handle, pad
}
"""Attributes that differ between two pictures of the same ruleset."""
_KNOWN: Final = {
    "table": {1, 2, 3, 4, 5},
    "chain": {1, 2, 3, 4, 5, 6, 7, 9, 10, 11},
    "set": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20},
    "object": {1, 2, 3, 4, 5, 6, 7},
    "rule": {1, 2, 3, 4, 6, 7, 8, 9},
    "flowtable": set[int](),
}
"""Attributes that libnftables shows, or that have no effect; without comments of anything but rules."""
_SET_DATA_TYPE: Final = 6
_VERDICTS: Final = 0xFFFFFF00
"""The data type of a verdict map (NFT_DATA_VERDICT)."""
_ANONYMOUS: Final = 0x1
_SET_COMMENT: Final = 7
_READABLE_KEYS: Final = frozenset({7, 8, 12, 13, 41})
"""Data types of set keys: IPv4 and IPv6 address, protocol, port, interface name (libnftables' numbers)."""
_KEY_BITS: Final = 6
"""Of each part of a concatenated key type."""
READABLE: Final = frozenset(
    {
        *("bitwise", "byteorder", "cmp", "counter", "ct", "dynset", "immediate", "limit", "log", "lookup"),
        *("meta", "notrack", "objref", "payload", "quota", "range", "reject", "rt", "xfrm", "fib"),
    }
)
"""Expressions that libnftables lists as JSON."""
_REFERENCES: Final = {"lookup": 1, "dynset": 1, "objref": 4}
"""Expressions that name a set, and the attribute with its name."""


class Unreadable(Exception):
    """The kernel's dump cannot be read; the message says why."""


class PictureRule(NamedTuple):
    """A rule as it is compared, and the names of its expressions."""

    content: bytes
    expressions: tuple[str, ...]


@dataclass(slots=True)
class Picture:
    """The table at one moment. Objects by kind and name, as in "set ports"."""

    generation: int
    alone: bool
    """Whether there is no other table of the family."""
    owned: bool = False
    """Whether it is another process's alone to change (flags owner)."""
    objects: dict[str, bytes] = field(default_factory=dict)
    rules: dict[str, list[PictureRule]] = field(default_factory=dict)
    elements: dict[str, frozenset[bytes]] = field(default_factory=dict)
    dumped: dict[str, bytes] = field(default_factory=dict)
    """The elements of each set in the order of the dump."""
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Packets and bytes by the name of the counter."""
    mark: str = ""
    """Of the policy that the table says it follows from."""
    strange: list[str] = field(default_factory=list)
    """What libnftables may not be able to list, or not show."""

    def equals(self, other: Picture) -> bool:
        """Whether both have the same objects, rules and elements."""
        return (self.objects, self.rules, self.elements) == (other.objects, other.rules, other.elements)


def generation(sock: socket.socket) -> int:
    """The number of the ruleset's generation, which each transaction of anybody's raises."""
    sock.send(netlink.request(_SUBSYSTEM | _GET_GENERATION, 0, socket.AF_UNSPEC))
    for message in netlink.messages(sock.recv(netlink.RECEIVE_BYTES)):
        return int.from_bytes(message.attributes().get(1, b""), "big")
    return 0


def take(
    sock: socket.socket, unsteady: Container[str] | None, known: Picture | None = None
) -> Picture | None:
    """The table as it is now; None if there is none.

    Elements of the `unsteady` sets are not part of it, nor those of any named set if that is None. Where a set is
    dumped as in a `known` picture, its elements are taken from there, which saves most of the time for large sets.

    `sock` is a netfilter socket for this alone. Raises: Unreadable, OSError.
    """
    last: Picture | None = None
    for _ in range(ATTEMPTS_MAX):
        before = generation(sock)
        reader = _Reader(sock, unsteady, known)
        try:
            picture = reader.picture(before)
        except FileNotFoundError:  # the table, or a set, was removed meanwhile
            if generation(sock) == before:
                raise Unreadable("the kernel lists an object that it does not have") from None
            continue
        if generation(sock) == before and not reader.interrupted:
            return picture
        if picture and last and picture.equals(last) and picture.strange == last.strange:
            return picture  # the changes are about other tables
        last = picture
    raise Unreadable(f"others changed the ruleset during each of {ATTEMPTS_MAX} attempts to read it")


class _Reader:
    def __init__(
        self, sock: socket.socket, unsteady: Container[str] | None, known: Picture | None = None
    ) -> None:
        self._socket, self._unsteady, self._known = sock, unsteady, known
        self.interrupted = False
        """Whether the ruleset, of which the table is a part, changed during a dump."""
        self._strange: list[str] = []
        self._states: defaultdict[str, set[bytes]] = defaultdict(set)
        """Of each set that rules add elements to: the states that they keep, as they are at the beginning."""

    def picture(self, number: int) -> Picture | None:
        """The table in the generation of that number."""
        tables = [message.attributes() for message in self._dump(_GET_TABLE)]
        ours = next((given for given in tables if _text(given, _TABLE_NAME) == TABLE), None)
        if ours is None:
            return None
        owned = _TABLE_OWNER in ours
        picture = Picture(number, len(tables) == 1, owned, strange=self._strange)
        picture.objects["table"] = self._steady("table", "table", ours)
        if any(ours.get(_TABLE_FLAGS, b"")):
            self._strange.append(f"the table has flags ({ours[_TABLE_FLAGS].hex()})")
        named = attribute(_TABLE, TABLE.encode() + b"\0")
        anonymous = dict(self._sets(picture, named))
        self._chains(picture, named)
        self._objects(picture, named)
        for message in self._dump(_GET_RULE, named):
            given = message.attributes()
            chain = _text(given, _RULE_CHAIN)
            picture.rules.setdefault(chain, []).append(self._rule(chain, given, anonymous))
            picture.mark = picture.mark or _mark(given.get(_RULE_USERDATA, b""))
        if self._unsteady is not None:
            self._judge_states(named)
        return picture

    def _judge_states(self, named: bytes) -> None:
        """An element with another limit than the rule's would replace that limit, and no rule would show it."""
        for name, states in self._states.items():
            for element in self._elements(named, name):
                state = attributes(element[4:]).get(_ELEMENT_STATE)
                if state not in states:
                    self._strange.append(f"set {name} has an element with another limit than the policy's")
                    break

    def _chains(self, picture: Picture, named: bytes) -> None:
        for message in self._dump(_GET_CHAIN, named):
            given = message.attributes()
            if _text(given, _TABLE) == TABLE:  # older kernels list the chains of all tables
                key = f"chain {_text(given, _CHAIN_NAME)}"
                picture.objects[key] = self._steady("chain", key, given)

    def _objects(self, picture: Picture, named: bytes) -> None:
        for message in self._dump(_GET_OBJECT, named):
            given = message.attributes()
            kind, name = int.from_bytes(given.get(_OBJECT_TYPE, b""), "big"), _text(given, _NAME)
            key = f"counter {name}" if kind == _COUNTER else f"object {name} of type {kind}"
            picture.objects[key] = self._steady("object", key, given)
            if kind == _COUNTER:
                data = attributes(given.get(_OBJECT_DATA, b""))
                packets, size = (
                    int.from_bytes(data.get(n, b""), "big") for n in (_COUNTER_PACKETS, _COUNTER_BYTES)
                )
                picture.counts[name] = packets, size
            else:
                self._strange.append(f"{key} is not the policy's")
        for message in self._dump(_GET_FLOWTABLE, named):
            key = f"flowtable {_text(message.attributes(), _NAME)}"
            picture.objects[key] = self._steady("flowtable", key, message.attributes())
            self._strange.append(f"{key} is not the policy's")

    def _sets(self, picture: Picture, named: bytes) -> Iterator[tuple[str, bytes]]:
        """Takes the named sets in; yields the anonymous ones by name, with what stands for their content."""
        for message in self._dump(_GET_SET, named):
            given = message.attributes()
            name, flags = _text(given, _NAME), int.from_bytes(given.get(_SET_FLAGS, b""), "big")
            if flags & _ANONYMOUS:
                content = b"".join(sorted(self._elements(named, name)))
                kind = {number: value for number, value in given.items() if number != _NAME}
                yield name, sha256(self._steady("set", "", kind) + content).digest()
                continue
            key = f"set {name}"
            picture.objects[key] = self._steady("set", key, given)
            self._judge_set(key, given)
            if self._unsteady is not None and name not in self._unsteady:
                self._take_elements(picture, named, name)

    def _take_elements(self, picture: Picture, named: bytes, name: str) -> None:
        dumped = b"".join(self._dump_elements(named, name))
        if self._known and self._known.dumped.get(name) == dumped:
            picture.dumped[name], picture.elements[name] = (
                self._known.dumped[name],
                self._known.elements[name],
            )
        else:
            picture.dumped[name], picture.elements[name] = dumped, frozenset(split(dumped))

    def _judge_set(self, key: str, given: Mapping[int, bytes]) -> None:
        kind = int.from_bytes(given.get(_SET_KEY_TYPE, b""), "big")
        while kind:
            if kind & (1 << _KEY_BITS) - 1 not in _READABLE_KEYS:
                self._strange.append(f"{key} has keys of a type that the policy does not use")
                return
            kind >>= _KEY_BITS
        if _SET_DATA_TYPE in given and int.from_bytes(given[_SET_DATA_TYPE], "big") != _VERDICTS:
            self._strange.append(f"{key} is a map of values")
        if _SET_COMMENT in _userdata(given.get(_SET_USERDATA, b"")):
            self._strange.append(f"{key} has a comment")

    def _elements(self, named: bytes, name: str) -> Iterator[bytes]:
        for some in self._dump_elements(named, name):
            yield from split(some)

    def _dump_elements(self, named: bytes, name: str) -> Iterator[bytes]:
        """The elements of a set, padded to four bytes each, in the parts in which the kernel dumps them."""
        query = named + attribute(_NAME, name.encode("utf-8", "surrogateescape") + b"\0")
        for message in self._dump(_GET_ELEMENT, query):
            some = message.attributes().get(_ELEMENTS, b"")
            yield some + bytes(-len(some) % 4)

    def _rule(self, chain: str, given: Mapping[int, bytes], anonymous: Mapping[str, bytes]) -> PictureRule:
        content, names = [self._steady("rule", f"a rule of chain {chain}", given, {_RULE_EXPRESSIONS})], []
        for element in split(given.get(_RULE_EXPRESSIONS, b"")):
            expression = attributes(element[4:])
            name = _text(expression, _EXPRESSION_NAME)
            names.append(name)
            data = expression.get(_EXPRESSION_DATA, b"")
            if name not in READABLE:
                self._strange.append(f"chain {chain} has a rule with the expression {name!r}")
            if name in _REFERENCES:
                inner = attributes(data)
                referred = _text(inner, _REFERENCES[name])
                if name == "dynset" and _DYNSET_STATE in inner:
                    self._states[referred].add(inner[_DYNSET_STATE])
                if referred in anonymous:
                    inner[_REFERENCES[name]] = anonymous[referred]
                data = _joined(inner)
            content.append(attribute(0, name.encode("utf-8", "surrogateescape")) + data)
        return PictureRule(b"".join(content), tuple(names))

    def _steady(self, kind: str, key: str, given: Mapping[int, bytes], but: Iterable[int] = ()) -> bytes:
        """The attributes that belong to a picture."""
        if odd := given.keys() - _KNOWN[kind]:
            self._strange.append(f"{key} has attributes that the policy does not use ({min(odd)})")
        if not key.isascii() or not key.isprintable():
            self._strange.append(f"{key!r} has an unusual name")
        left_out = _UNSTEADY[kind].union(but)
        return _joined({number: value for number, value in given.items() if number not in left_out})

    def _dump(self, kind: int, query: bytes = b"") -> list[netlink.NetlinkMessage]:
        """All messages of a dump. It is read to its end in any case, so that the next one begins afresh."""
        self._socket.send(netlink.request(_SUBSYSTEM | kind, netlink.F_DUMP, netlink.FAMILIES[FAMILY], query))
        found: list[netlink.NetlinkMessage] = []
        size = 0
        while True:
            datagram = self._socket.recv(netlink.RECEIVE_BYTES)
            size += len(datagram)
            for message in netlink.messages(datagram):
                self.interrupted |= bool(message.flags() & _INTERRUPTED)
                if message.kind == netlink.DONE:
                    if size > READ_BYTES_MAX:
                        raise Unreadable(f"the table has more than {READ_BYTES_MAX >> 20} MiB in it")
                    return found
                if message.kind == netlink.ERROR:
                    return _failed(message, kind)
                if size <= READ_BYTES_MAX:
                    found.append(message)


def _failed(message: netlink.NetlinkMessage, kind: int) -> list[netlink.NetlinkMessage]:
    number = -int.from_bytes(message.payload[:4], "little", signed=True)
    if kind == _GET_FLOWTABLE and number in _NOT_IN_THIS_KERNEL:
        return []
    raise OSError(number, f"the kernel does not list its objects ({errno.errorcode.get(number, number)})")


def split(data: bytes) -> Iterator[bytes]:
    """The attributes of a list, each with its header."""
    at, end = 0, len(data)
    step = data[0] | data[1] << 8 if end >= 4 else 0
    if step >= 4 and not step & 3 and not end % step:  # thousands of elements are all of one length
        parts = [data[at : at + step] for at in range(0, end, step)]
        if all(part.startswith(data[:2]) for part in parts):
            yield from parts
            return
    while at + 4 <= end:
        length = data[at] | data[at + 1] << 8
        step = max(length + 3 & ~3, 4)
        yield data[at : at + length]
        at += step


def _joined(given: Mapping[int, bytes]) -> bytes:
    return b"".join(attribute(number, given[number]) for number in sorted(given))


def _userdata(data: bytes) -> dict[int, bytes]:
    """libnftables' own records: type, length, value, a byte each for the first two."""
    found = {}
    while len(data) >= 2:
        found[data[0]] = data[2 : 2 + data[1]]
        data = data[2 + data[1] :]
    return found


def _mark(userdata: bytes) -> str:
    """The comment of a rule (record 0), if it is the mark of a policy."""
    comment = _userdata(userdata).get(0, b"").rstrip(b"\0").decode(errors="replace")
    return comment if comment.startswith(MARK) else ""


def _text(given: Mapping[int, bytes], number: int) -> str:
    """A name; bytes that are not UTF-8 are kept, so that two names never look alike."""
    return given.get(number, b"").rstrip(b"\0").decode("utf-8", "surrogateescape")
