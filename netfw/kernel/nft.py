# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""libnftables: transactions on the kernel's nf_tables and listings of it, both as JSON.

A context belongs to the network namespace of the thread that created it, permanently.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Iterable
from typing import Final

from nftables import Nftables

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel import netlink
from netfw.ruleset.names import FAMILY, TABLE
from netfw.ruleset.nft_json import Json

LIBRARY: Final = "libnftables.so.1"

LARGE_BYTES: Final = 128 * 1024
"""JSON of this size has some 3,000 addresses, for which the library takes 5 MB."""


REPLY_SECONDS_MAX: Final = 5.0
"""Bounds the wait for a lost reply: the kernel normally replies before the request returns."""


class Nft(Nftables):  # type: ignore[misc]  # the module has no types
    """A libnftables context for this network namespace. All methods raise FirewallError."""

    def __init__(self, library: str = LIBRARY) -> None:
        """Load the library. Raises: FirewallError (LACKING) with the packages that provide it."""
        try:
            self._library = ctypes.cdll.LoadLibrary(library)
        except OSError:
            raise FirewallError(
                FirewallErrorKind.LACKING,
                f"{library} is not installed; "
                "install libnftables1 (Debian, Ubuntu) or nftables (RHEL, Fedora)",
            ) from None
        super().__init__(library)
        self.socket = netlink.netfilter_socket()
        """For direct netlink requests in the same network namespace."""
        self.socket.settimeout(REPLY_SECONDS_MAX)
        self.set_json_output(True)
        self.set_handle_output(True)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Release the context."""
        if context := self.__dict__.pop(_CONTEXT, None):
            self.nft_ctx_free(context)
            self.socket.close()

    def run(self, commands: Iterable[Json]) -> None:
        """Run all commands in one transaction, or none of them."""
        self._run_json(*commands)

    def check(self, commands: Iterable[Json]) -> None:
        """Check whether `run` would succeed, without changing anything."""
        fresh = Nft()  # a context caches objects of commands that it has only checked
        try:
            # part of libnftables(3), but of the Python class only since nftables 1.0.8
            fresh._library.nft_ctx_set_dry_run(ctypes.c_void_p(fresh.__dict__[_CONTEXT]), ctypes.c_bool(True))
            fresh.run(commands)
        finally:
            fresh.close()

    def table(self) -> list[Json] | None:
        """Return the objects of the firewall's table as listed by the kernel; None if there is no such table."""
        return self._listed({"table": {"family": FAMILY, "name": TABLE}})

    def outline(self, *, alone: bool) -> list[Json] | None:
        """Like `table`, but without the elements of its sets.

        The library leaves out the elements only when listing the whole ruleset, which takes 2 ms, and may fail on
        tables of other programs. That is therefore done only if the table is the only one in its family (`alone`).
        When listing one table the library fetches the elements and omits them: 60 ms with 10,000 elements.
        """
        before = self.set_terse_output(True)
        try:
            query = {"ruleset": {"family": FAMILY}} if alone else {"table": {"family": FAMILY, "name": TABLE}}
            objects = self._listed(query) or []
        finally:
            self.set_terse_output(before)
        return [each for each in objects if _is_ours(each)] or None

    def elements(self, name: str) -> list[Json]:
        """Return the elements of this set of the table; none if there is no such set."""
        sets = self._listed({"set": {"family": FAMILY, "table": TABLE, "name": name}})
        return [element for each in sets or [] for element in each["set"].get("elem", [])]

    def _listed(self, query: Json) -> list[Json] | None:
        """Return the listed objects; None if the queried object does not exist."""
        try:
            output = self._run_json({"list": query})
        except FirewallError as error:
            if "No such file or directory" in str(error):
                return None
            raise
        try:
            objects: list[Json] = json.loads(output)["nftables"] if output else []
        except ValueError as error:  # libnftables 1.0.6 does this for a table with an owner
            raise FirewallError(FirewallErrorKind.REFUSED, f"the listing is not JSON: {error}") from error
        return [each for each in objects if "metainfo" not in each]

    def _run_json(self, *commands: Json) -> str:
        assert _CONTEXT in self.__dict__, "used after close()"
        text = json.dumps({"nftables": commands})
        status, output, complaint = self.cmd(text)
        if max(len(text), len(output)) > LARGE_BYTES:
            _release_memory()
        if status != 0:
            raise _explained(complaint)
        return str(output)


_CONTEXT: Final = "_Nftables__ctx"
"""Name of the private attribute in which the Python class keeps its context."""


def _release_memory() -> None:
    """Return freed memory to the system: the library takes 15 MB for 10,000 addresses, which glibc would keep."""
    with contextlib.suppress(AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _is_ours(listed: Json) -> bool:
    """Return whether a listed object is the firewall's table, or belongs to it."""
    ((kind, body),) = listed.items()
    return bool(body["name" if kind == "table" else "table"] == TABLE)


def _explained(complaint: str) -> FirewallError:
    first = complaint.strip().partition("\n")[0].removeprefix("internal:0:0-0: ").removeprefix("Error: ")
    if "Operation not permitted" in complaint:
        return FirewallError(
            FirewallErrorKind.DENIED, "the kernel does not let this user change the firewall; run it as root"
        )
    if "not supported" in complaint and "cache initialization" in complaint:
        return FirewallError(
            FirewallErrorKind.LACKING, "this kernel has no nf_tables; load the module nf_tables"
        )
    return FirewallError(
        FirewallErrorKind.REFUSED, f"the kernel refused the change: {first or 'no reason given'}"
    )
