"""libnftables, which speaks to the kernel's nf_tables: transactions in, listings out, both in its JSON.

Of the library's interface (libnftables(3)) six functions are enough, so they are bound here. The Python module that
comes with nftables 0.9 to 1.0.6 cannot say "check only".

A context belongs to the network namespace that the thread was in when it was made, and stays there.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterable
from enum import Enum, auto
from typing import Any, Final

from netfw.names import FAMILY, TABLE
from netfw.terms import Json

LIBRARY: Final = "libnftables.so.1"
_OUTPUT_JSON: Final = 1 << 4
_OUTPUT_HANDLE: Final = 1 << 3


class Kind(Enum):
    """What a caller can do about a FirewallError."""

    LACKING = auto()
    """The machine has no libnftables, or its kernel no nf_tables: install it."""
    DENIED = auto()
    """This process may not: be root, or have CAP_NET_ADMIN in this network namespace."""
    REFUSED = auto()
    """The kernel does not take it; what was in force still is."""
    UNFIT = auto()
    """What was asked does not fit the policy."""


class FirewallError(Exception):
    """The firewall could not do what was asked, and nothing was changed."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Nft:
    """A context of the library, for this network namespace. Errors of all methods: FirewallError."""

    def __init__(self, library: str = LIBRARY) -> None:
        """Errors: FirewallError (LACKING), saying which packages have the library."""
        self._library = _load(library)
        self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_output_set_flags(self._context, ctypes.c_uint(_OUTPUT_JSON | _OUTPUT_HANDLE))

    def close(self) -> None:
        """Give the context back."""
        self._library.nft_ctx_free(self._context)
        self._context = ctypes.c_void_p()

    def run(self, commands: Iterable[Json]) -> None:
        """Do all these in one transaction, or none of them."""
        status, _, complaint = self._say({"nftables": list(commands)})
        if status != 0:
            raise _explained(complaint)

    def check(self, commands: Iterable[Json]) -> None:
        """Find out whether `run` would take these, and change nothing."""
        fresh = Nft()  # what a context was told to check it later believes to be there
        try:
            fresh._library.nft_ctx_set_dry_run(fresh._context, ctypes.c_bool(True))
            fresh.run(commands)
        finally:
            fresh.close()

    def table(self) -> list[Json] | None:
        """The objects of the firewall's own table, as the kernel lists them; None if there is no such table."""
        status, output, complaint = self._say(
            {"nftables": [{"list": {"table": {"family": FAMILY, "name": TABLE}}}]}
        )
        if status != 0:
            if "No such file or directory" in complaint:
                return None
            raise _explained(complaint)
        listed: list[Json] = json.loads(output)["nftables"]
        return [thing for thing in listed if "metainfo" not in thing]

    def _say(self, document: Json) -> tuple[int, str, str]:
        assert self._context.value, "used after close()"
        text = json.dumps(document).encode()
        status = self._library.nft_run_cmd_from_buffer(self._context, ctypes.c_char_p(text))
        output = self._library.nft_ctx_get_output_buffer(self._context)
        complaint = self._library.nft_ctx_get_error_buffer(self._context)
        return status, output.decode(), complaint.decode()


def _load(name: str) -> Any:
    try:
        library = ctypes.CDLL(name)
    except OSError:
        raise FirewallError(
            Kind.LACKING,
            f"{name} is not on this machine; install libnftables1 (Debian, Ubuntu) or nftables (RHEL, Fedora)",
        ) from None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    return library


def _explained(complaint: str) -> FirewallError:
    first = complaint.strip().partition("\n")[0].removeprefix("internal:0:0-0: ").removeprefix("Error: ")
    if "Operation not permitted" in complaint:
        return FirewallError(Kind.DENIED, "the kernel does not let this user change the firewall; be root")
    if "not supported" in complaint and "cache initialization" in complaint:
        return FirewallError(Kind.LACKING, "this kernel has no nf_tables; load the module nf_tables")
    return FirewallError(Kind.REFUSED, f"the kernel does not take it: {first or 'no reason given'}")
