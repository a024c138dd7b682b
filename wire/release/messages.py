"""Messages between box and data center about updates, and requests by which a box fetches a release.

    POST /v1/update                          the box's `UpdateState`; 200 with its `UpdateOrder`
    GET  /v1/releases/FILE/OFFSET/LENGTH     200 with at most LENGTH bytes of a metadata file; fewer at its end
    GET  /v1/files/SHA256/OFFSET/LENGTH      200 with at most LENGTH bytes of a target, as in `wire.files`

A box requests its order when its program starts, when the response to a batch has `updates`, and when the last of the
restart times of its order is over. Only a box that requests orders receives them; earlier versions need not know
them. It reports the progress of an order with records (`wire.messages.UpdateStep`), which determine the outcome.

A file that is fetched in ranges may be replaced during the transfer. Then its signature or hash is wrong, and the box
fetches it again from the beginning.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias

from msgspec import Meta

from wire.files import RANGE_BYTES_MAX
from wire.messages import Count, Message

PATH: Final = "/v1/update"
RELEASES_PATH: Final = "/v1/releases/"
METADATA_BYTES_MAX: Final = 1024 * 1024
"""Maximum size of a metadata file."""
TARGET_BYTES_MAX: Final = 2 * 1024**3
"""Maximum size of a target."""
RESTART_TIMES_MAX: Final = 32

Kind: TypeAlias = Literal["system", "application", "data"]
"""The kind of a release: "system" replaces a slot and restarts the machine; "application" replaces a slot in which
only the box's programs differ, and "data" small files, both without a restart of the machine.

It is `custom.kind` of its targets, "system" if that is missing.
"""
OptionalSha256: TypeAlias = Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")]
Seconds: TypeAlias = Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""Seconds since 1970-01-01T00:00:00Z by the data center's clock, which the `Date` of the response shows."""
FileVersion: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]

_GET: Final = re.compile(
    rf"{RELEASES_PATH}([1-9][0-9]{{0,15}}\.root\.json|timestamp\.json|snapshot\.json|targets\.json)"
    r"/([0-9]{1,7})/([0-9]{1,5})"
)


class UpdateState(Message, frozen=True):
    """Data center ← box: the running software.

    `running` and `data` are the numbers of the release that runs and of the latest one of kind "data", 0 if unknown.
    `slot_sha256` is the hash of the running slot and `other_sha256` the hash of the other slot, empty if unknown: a
    delta can start from either. `order` is the order that the box follows, 0 if none.
    """

    running: Count
    slot_sha256: OptionalSha256 = ""
    other_sha256: OptionalSha256 = ""
    order: Count = 0
    data: Count = 0


class MetadataVersions(Message, frozen=True):
    """The versions of the metadata files that an order is about; the box needs these or later versions."""

    root: FileVersion = 0
    timestamp: FileVersion = 0
    snapshot: FileVersion = 0
    targets: FileVersion = 0


class UpdateOrder(Message, frozen=True):
    """Box ← data center: the only order of the box. `order` is 0 if there is none, or if it was withdrawn.

    `release` is the number of the release, `custom.number` of its targets. The box may fetch and apply it
    immediately, and may put it into force from `not_before_s` on. If a restart is necessary and `restart_times`
    (pairs of beginning and end) is not empty, it does so only within these; after the last of them it requests its
    order again. `may_fetch_slot` permits it to fetch a whole slot if no delta fits; otherwise it refuses the order.
    """

    order: Count
    release: Count = 0
    kind: Kind = "system"
    metadata: MetadataVersions = MetadataVersions()
    not_before_s: Seconds = 0
    restart_times: Annotated[tuple[tuple[Seconds, Seconds], ...], Meta(max_length=RESTART_TIMES_MAX)] = ()
    may_fetch_slot: bool = False


NO_ORDER: Final = UpdateOrder(0)


class MetadataRange(NamedTuple):
    """A request for a range of a metadata file, at most `length` bytes from `offset`."""

    file: str
    offset: int
    length: int

    @property
    def target(self) -> str:
        """The path of the request."""
        return f"{RELEASES_PATH}{self.file}/{self.offset}/{self.length}"


def parse_metadata_range(target: str) -> MetadataRange | None:
    """Return the range of a GET path; None if the path does not name a metadata file."""
    match = _GET.fullmatch(target)
    if match is None or not 1 <= int(match[3]) <= RANGE_BYTES_MAX or int(match[2]) > METADATA_BYTES_MAX:
        return None
    return MetadataRange(match[1], int(match[2]), int(match[3]))
