# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Byte-for-byte snapshot of the firewall's table: every object and rule as the kernel dumps it.

libnftables translates the kernel's objects into JSON and omits what it does not support (comments of sets, table
owners, statements of set elements); some releases crash on unknown objects. The bytes omit nothing. A snapshot that
equals the one taken when the policy was known to be in force therefore proves that nothing was changed, even if
libnftables does not support the content. Reading the dump takes 5 ms with 10,000 addresses, a listing 150 ms. Tables
of other programs are not read.

Handles, reference counts, counter values and open sessions are excluded. Names of anonymous sets, which the kernel
numbers, are replaced by the sets' content.
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
"""Maximum size of a dump; the dump of the largest policy has 3 MB."""
ATTEMPTS_MAX: Final = 20
"""Attempts, because other programs may change the ruleset during a read. Two equal snapshots in a row also count as
undisturbed, since other programs may change their own tables all the time."""

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

# Attribute numbers from linux/netfilter/nf_tables.h
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

_VOLATILE: Final = {
    "table": {3, 4, 5},  # use, handle, pad
    "chain": {2, 6, 9, 11},  # handle, use, pad, id
    "set": {10, 14, 16, 20},  # id, pad, handle, count
    "object": {4, 5, 6, 7},  # data, use, handle, pad
    "rule": {1, 2, 3, 6, 8, 9},  # table, chain, handle, position, pad, id
    "flowtable": {5, 6, 7},  # use, handle, pad
}
"""Attributes that can differ between two snapshots of the same ruleset."""
_KNOWN: Final = {
    "table": {1, 2, 3, 4, 5},
    "chain": {1, 2, 3, 4, 5, 6, 7, 9, 10, 11},
    "set": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20},
    "object": {1, 2, 3, 4, 5, 6, 7},
    "rule": {1, 2, 3, 4, 6, 7, 8, 9},
    "flowtable": set[int](),
}
"""Attributes that libnftables lists, or that have no effect; of comments, only those of rules."""
_SET_DATA_TYPE: Final = 6
_VERDICTS: Final = 0xFFFFFF00
"""The data type of a verdict map (NFT_DATA_VERDICT)."""
_ANONYMOUS: Final = 0x1
_SET_COMMENT: Final = 7
_READABLE_KEYS: Final = frozenset({7, 8, 12, 13, 41})
"""Data types of set keys: IPv4 and IPv6 address, protocol, port, interface name (libnftables' numbers)."""
_KEY_BITS: Final = 6
"""Bits per part of a concatenated key type."""
READABLE: Final = frozenset(
    {
        *("bitwise", "byteorder", "cmp", "counter", "ct", "dynset", "immediate", "limit", "log", "lookup"),
        *("meta", "notrack", "objref", "payload", "quota", "range", "reject", "rt", "xfrm", "fib"),
    }
)
"""Expressions that libnftables lists as JSON."""
_REFERENCES: Final = {"lookup": 1, "dynset": 1, "objref": 4}
"""Expressions that refer to a set, and the attribute with the set's name."""


class Unreadable(Exception):
    """The kernel's dump cannot be read; the message gives the reason."""


class SnapshotRule(NamedTuple):
    """A rule's comparable content, and the names of its expressions."""

    content: bytes
    expressions: tuple[str, ...]


@dataclass(slots=True)
class TableSnapshot:
    """The table at one moment. Objects are keyed by kind and name, as in "set ports"."""

    generation: int
    alone: bool
    """Whether the table is the only one of its family."""
    owned: bool = False
    """Whether only another process can change the table (flags owner)."""
    objects: dict[str, bytes] = field(default_factory=dict)
    rules: dict[str, list[SnapshotRule]] = field(default_factory=dict)
    elements: dict[str, frozenset[bytes]] = field(default_factory=dict)
    dumped: dict[str, bytes] = field(default_factory=dict)
    """The elements of each set in dump order."""
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Packets and bytes by counter name."""
    unsupported: list[str] = field(default_factory=list)
    """Content that libnftables may not be able to list, or may omit."""

    def equals(self, other: TableSnapshot) -> bool:
        """Return whether both have the same objects, rules and elements."""
        return (self.objects, self.rules, self.elements) == (other.objects, other.rules, other.elements)


def generation(sock: socket.socket) -> int:
    """Return the ruleset's generation number, which every transaction of any program increments."""
    sock.send(netlink.request(_SUBSYSTEM | _GET_GENERATION, 0, socket.AF_UNSPEC))
    for message in netlink.messages(sock.recv(netlink.RECEIVE_BYTES)):
        return int.from_bytes(message.attributes().get(1, b""), "big")
    return 0


def take(
    sock: socket.socket, volatile: Container[str] | None, known: TableSnapshot | None = None
) -> TableSnapshot | None:
    """Read the table; None if there is none.

    Elements of the `volatile` sets are omitted; with None, those of all named sets. If a set's dump equals that in a
    `known` snapshot, its elements are taken from there, which saves most of the time for large sets.

    `sock` is a netfilter socket without other use. Raises: Unreadable, OSError.
    """
    last: TableSnapshot | None = None
    for _ in range(ATTEMPTS_MAX):
        before = generation(sock)
        reader = _Reader(sock, volatile, known)
        try:
            snapshot = reader.snapshot(before)
        except FileNotFoundError:  # the table, or a set, was removed in the meantime
            if generation(sock) == before:
                raise Unreadable("the kernel lists an object that does not exist") from None
            continue
        if generation(sock) == before and not reader.interrupted:
            return snapshot
        if snapshot and last and snapshot.equals(last) and snapshot.unsupported == last.unsupported:
            return snapshot  # the changes concerned other tables
        last = snapshot
    raise Unreadable(f"other programs changed the ruleset during each of {ATTEMPTS_MAX} attempts to read it")


def read_mark(sock: socket.socket) -> str:
    """Return the mark of the policy from which the table was generated; "" without one. Reads the rules only.

    `sock` is a netfilter socket without other use. Raises: Unreadable, OSError.
    """
    last: str | None = None
    for _ in range(ATTEMPTS_MAX):
        before = generation(sock)
        reader = _Reader(sock, None)
        mark = reader.mark()
        if mark == last or (generation(sock) == before and not reader.interrupted):
            return mark
        last = mark
    raise Unreadable(f"other programs changed the ruleset during each of {ATTEMPTS_MAX} attempts to read it")


class _Reader:
    def __init__(
        self, sock: socket.socket, volatile: Container[str] | None, known: TableSnapshot | None = None
    ) -> None:
        self._socket, self._volatile, self._known = sock, volatile, known
        self.interrupted = False
        """Whether the ruleset changed during a dump."""
        self._unsupported: list[str] = []
        self._states: defaultdict[str, set[bytes]] = defaultdict(set)
        """The states kept in each set that rules add elements to, with their initial values."""

    def snapshot(self, number: int) -> TableSnapshot | None:
        """Read the table in the generation `number`."""
        tables = [message.attributes() for message in self._dump(_GET_TABLE)]
        ours = next((fields for fields in tables if _text(fields, _TABLE_NAME) == TABLE), None)
        if ours is None:
            return None
        owned = _TABLE_OWNER in ours
        snapshot = TableSnapshot(number, len(tables) == 1, owned, unsupported=self._unsupported)
        snapshot.objects["table"] = self._stable("table", "table", ours)
        if any(ours.get(_TABLE_FLAGS, b"")):
            self._unsupported.append(f"the table has flags ({ours[_TABLE_FLAGS].hex()})")
        named = attribute(_TABLE, TABLE.encode() + b"\0")
        anonymous = dict(self._sets(snapshot, named))
        self._chains(snapshot, named)
        self._objects(snapshot, named)
        for message in self._dump(_GET_RULE, named):
            fields = message.attributes()
            chain = _text(fields, _RULE_CHAIN)
            snapshot.rules.setdefault(chain, []).append(self._rule(chain, fields, anonymous))
        if self._volatile is not None:
            self._check_states(named)
        return snapshot

    def mark(self) -> str:
        """Read the mark of the table, from the comments of its rules."""
        rules = self._dump(_GET_RULE, attribute(_TABLE, TABLE.encode() + b"\0"))
        marks = (_mark(message.attributes().get(_RULE_USERDATA, b"")) for message in rules)
        return next(filter(None, marks), "")

    def _check_states(self, named: bytes) -> None:
        """Detect elements with another limit than the rule's, which would override it although no rule changed."""
        for name, states in self._states.items():
            for element in self._elements(named, name):
                state = attributes(element[4:]).get(_ELEMENT_STATE)
                if state not in states:
                    self._unsupported.append(
                        f"set {name} has an element with another limit than the policy's"
                    )
                    break

    def _chains(self, snapshot: TableSnapshot, named: bytes) -> None:
        for message in self._dump(_GET_CHAIN, named):
            fields = message.attributes()
            if _text(fields, _TABLE) == TABLE:  # older kernels list the chains of all tables
                key = f"chain {_text(fields, _CHAIN_NAME)}"
                snapshot.objects[key] = self._stable("chain", key, fields)

    def _objects(self, snapshot: TableSnapshot, named: bytes) -> None:
        for message in self._dump(_GET_OBJECT, named):
            fields = message.attributes()
            kind, name = int.from_bytes(fields.get(_OBJECT_TYPE, b""), "big"), _text(fields, _NAME)
            key = f"counter {name}" if kind == _COUNTER else f"object {name} of type {kind}"
            snapshot.objects[key] = self._stable("object", key, fields)
            if kind == _COUNTER:
                data = attributes(fields.get(_OBJECT_DATA, b""))
                packets, size = (
                    int.from_bytes(data.get(n, b""), "big") for n in (_COUNTER_PACKETS, _COUNTER_BYTES)
                )
                snapshot.counts[name] = packets, size
            else:
                self._unsupported.append(f"{key} is not the policy's")
        for message in self._dump(_GET_FLOWTABLE, named):
            key = f"flowtable {_text(message.attributes(), _NAME)}"
            snapshot.objects[key] = self._stable("flowtable", key, message.attributes())
            self._unsupported.append(f"{key} is not the policy's")

    def _sets(self, snapshot: TableSnapshot, named: bytes) -> Iterator[tuple[str, bytes]]:
        """Add the named sets; yield (name, content) of the anonymous ones."""
        for message in self._dump(_GET_SET, named):
            fields = message.attributes()
            name, flags = _text(fields, _NAME), int.from_bytes(fields.get(_SET_FLAGS, b""), "big")
            if flags & _ANONYMOUS:
                content = b"".join(sorted(self._elements(named, name)))
                kind = {number: value for number, value in fields.items() if number != _NAME}
                yield name, sha256(self._stable("set", "", kind) + content).digest()
                continue
            key = f"set {name}"
            snapshot.objects[key] = self._stable("set", key, fields)
            self._check_set(key, fields)
            if self._volatile is not None and name not in self._volatile:
                self._take_elements(snapshot, named, name)

    def _take_elements(self, snapshot: TableSnapshot, named: bytes, name: str) -> None:
        dumped = b"".join(self._dump_elements(named, name))
        if self._known and self._known.dumped.get(name) == dumped:
            snapshot.dumped[name], snapshot.elements[name] = (
                self._known.dumped[name],
                self._known.elements[name],
            )
        else:
            snapshot.dumped[name], snapshot.elements[name] = dumped, frozenset(split(dumped))

    def _check_set(self, key: str, fields: Mapping[int, bytes]) -> None:
        kind = int.from_bytes(fields.get(_SET_KEY_TYPE, b""), "big")
        while kind:
            if kind & (1 << _KEY_BITS) - 1 not in _READABLE_KEYS:
                self._unsupported.append(f"{key} has keys of a type that the policy does not use")
                return
            kind >>= _KEY_BITS
        if _SET_DATA_TYPE in fields and int.from_bytes(fields[_SET_DATA_TYPE], "big") != _VERDICTS:
            self._unsupported.append(f"{key} is a map of values")
        if _SET_COMMENT in _userdata(fields.get(_SET_USERDATA, b"")):
            self._unsupported.append(f"{key} has a comment")

    def _elements(self, named: bytes, name: str) -> Iterator[bytes]:
        for chunk in self._dump_elements(named, name):
            yield from split(chunk)

    def _dump_elements(self, named: bytes, name: str) -> Iterator[bytes]:
        """Yield a set's elements, each padded to four bytes, in the chunks of the kernel's dump."""
        query = named + attribute(_NAME, name.encode("utf-8", "surrogateescape") + b"\0")
        for message in self._dump(_GET_ELEMENT, query):
            chunk = message.attributes().get(_ELEMENTS, b"")
            yield chunk + bytes(-len(chunk) % 4)

    def _rule(self, chain: str, fields: Mapping[int, bytes], anonymous: Mapping[str, bytes]) -> SnapshotRule:
        content, names = [self._stable("rule", f"a rule of chain {chain}", fields, {_RULE_EXPRESSIONS})], []
        for element in split(fields.get(_RULE_EXPRESSIONS, b"")):
            expression = attributes(element[4:])
            name = _text(expression, _EXPRESSION_NAME)
            names.append(name)
            data = expression.get(_EXPRESSION_DATA, b"")
            if name not in READABLE:
                self._unsupported.append(f"chain {chain} has a rule with the expression {name!r}")
            if name in _REFERENCES:
                inner = attributes(data)
                referred = _text(inner, _REFERENCES[name])
                if name == "dynset" and _DYNSET_STATE in inner:
                    self._states[referred].add(inner[_DYNSET_STATE])
                if referred in anonymous:
                    inner[_REFERENCES[name]] = anonymous[referred]
                data = _joined(inner)
            content.append(attribute(0, name.encode("utf-8", "surrogateescape")) + data)
        return SnapshotRule(b"".join(content), tuple(names))

    def _stable(
        self, kind: str, key: str, fields: Mapping[int, bytes], excluded: Iterable[int] = ()
    ) -> bytes:
        """Return the attributes that belong to a snapshot, encoded."""
        if unknown := fields.keys() - _KNOWN[kind]:
            self._unsupported.append(f"{key} has attributes that the policy does not use ({min(unknown)})")
        if not key.isascii() or not key.isprintable():
            self._unsupported.append(f"{key!r} has an unusual name")
        omitted = _VOLATILE[kind].union(excluded)
        return _joined({number: value for number, value in fields.items() if number not in omitted})

    def _dump(self, kind: int, query: bytes = b"") -> list[netlink.NetlinkMessage]:
        """Return all messages of a dump. Always reads to its end, so that the next dump can start."""
        self._socket.send(netlink.request(_SUBSYSTEM | kind, netlink.F_DUMP, netlink.FAMILIES[FAMILY], query))
        result: list[netlink.NetlinkMessage] = []
        size = 0
        while True:
            datagram = self._socket.recv(netlink.RECEIVE_BYTES)
            size += len(datagram)
            for message in netlink.messages(datagram):
                self.interrupted |= bool(message.flags() & _INTERRUPTED)
                if message.kind == netlink.DONE:
                    if size > READ_BYTES_MAX:
                        raise Unreadable(f"the table has more than {READ_BYTES_MAX >> 20} MiB")
                    return result
                if message.kind == netlink.ERROR:
                    return _failed(message, kind)
                if size <= READ_BYTES_MAX:
                    result.append(message)


def _failed(message: netlink.NetlinkMessage, kind: int) -> list[netlink.NetlinkMessage]:
    number = -int.from_bytes(message.payload[:4], "little", signed=True)
    if kind == _GET_FLOWTABLE and number in _NOT_IN_THIS_KERNEL:
        return []
    raise OSError(number, f"the kernel does not list its objects ({errno.errorcode.get(number, number)})")


def split(data: bytes) -> Iterator[bytes]:
    """Split a list into its attributes, including their headers."""
    at, end = 0, len(data)
    step = data[0] | data[1] << 8 if end >= 4 else 0
    if step >= 4 and not step & 3 and not end % step:  # fast path: thousands of elements of equal length
        parts = [data[at : at + step] for at in range(0, end, step)]
        if all(part.startswith(data[:2]) for part in parts):
            yield from parts
            return
    while at + 4 <= end:
        length = data[at] | data[at + 1] << 8
        step = max(length + 3 & ~3, 4)
        yield data[at : at + length]
        at += step


def _joined(fields: Mapping[int, bytes]) -> bytes:
    return b"".join(attribute(number, fields[number]) for number in sorted(fields))


def _userdata(data: bytes) -> dict[int, bytes]:
    """Decode libnftables' user data records: type (1 byte), length (1 byte), value."""
    records = {}
    while len(data) >= 2:
        records[data[0]] = data[2 : 2 + data[1]]
        data = data[2 + data[1] :]
    return records


def _mark(userdata: bytes) -> str:
    """Return a rule's comment (record 0) if it is the mark of a policy."""
    comment = _userdata(userdata).get(0, b"").rstrip(b"\0").decode(errors="replace")
    return comment if comment.startswith(MARK) else ""


def _text(fields: Mapping[int, bytes], number: int) -> str:
    """Decode a name; bytes that are not UTF-8 are preserved, so that different names remain different."""
    return fields.get(number, b"").rstrip(b"\0").decode("utf-8", "surrogateescape")
