"""The metadata of releases on the box: fetched, checked, and stored once it is trusted.

A box that was off for years fetches each root after its own; a box with the newest metadata fetches only a timestamp.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from agents.box.updates.memory import FetchPlan
from agents.disk_files import replace_file
from hal.disk import Disk, DiskError, DiskErrorKind
from wire.files import FILE_BYTES_MAX
from wire.messages import Count
from wire.release.messages import UpdateOrder
from wire.release.metadata import (
    ROOT_BYTES_MAX,
    SNAPSHOT_BYTES_MAX,
    TARGETS_BYTES_MAX,
    TIMESTAMP_BYTES_MAX,
    MetadataError,
    Target,
    TrustedMetadata,
)

ROOTS_MAX: Final = 64
"""Maximum number of new roots that are followed at once."""
_PREFIX: Final = "update-"
FetchMetadata: TypeAlias = Callable[[str, int], Awaitable[bytes | None]]
"""Returns a metadata file; None if there is none. A file longer than the given maximum may be truncated beyond it."""
Hash: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class OrderRefused(Exception):
    """The order cannot be followed; `reason` is reported to the data center."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _SlotFacts(msgspec.Struct, frozen=True):
    """The signed metadata of a slot and its blocks; other members are ignored here."""

    number: Count
    target: Hash
    bytes: Annotated[int, Meta(ge=1)]
    floor: Count = 0


class _DeltaFacts(_SlotFacts, frozen=True, kw_only=True):
    """The signed metadata of a delta."""

    source: Hash
    application: bool = False
    """Whether only the application's tree differs from the source."""


class ReleaseMetadata:
    """The metadata that the box trusts, on its disk. `call` makes a blocking call on the thread of the disk."""

    def __init__(
        self,
        disk: Disk,
        root: bytes,
        call: Callable[[Callable[[], bytes | None]], Awaitable[bytes | None]],
        fetch: FetchMetadata,
    ) -> None:
        """`root` is part of the software. `fetch` requests files from the data center."""
        self._disk, self._root, self._call, self._fetch = disk, root, call, fetch

    async def targets(self, now_s: float) -> Mapping[str, Target]:
        """Fetch newer metadata, and return all targets.

        Raises: MetadataError, OrderRefused if there is no room for it, DiskError, and what `fetch` raises.
        """
        trusted = await self._trusted_root(now_s)
        for _ in range(ROOTS_MAX):
            root = await self._fetch(f"{trusted.root_version + 1}.root.json", ROOT_BYTES_MAX)
            if root is None:
                break
            trusted.update_root(root)
            await self._store("root", root)
        stored = {name: await self._stored(name) for name in ("timestamp", "snapshot", "targets")}
        with suppress(MetadataError):  # signed with keys that have since been replaced
            trusted.update_timestamp(stored["timestamp"], is_stored=True)
            trusted.update_snapshot(stored["snapshot"], is_stored=True)
            trusted.update_targets(stored["targets"], is_stored=True)
        timestamp = await self._fetched("timestamp", TIMESTAMP_BYTES_MAX)
        trusted.update_timestamp(timestamp)
        await self._store("timestamp", timestamp)
        steps = (
            ("snapshot", SNAPSHOT_BYTES_MAX, trusted.update_snapshot),
            ("targets", TARGETS_BYTES_MAX, trusted.update_targets),
        )
        for name, bytes_max, update in steps:
            try:
                update(stored[name])
            except MetadataError:
                update(data := await self._fetched(name, bytes_max))
                await self._store(name, data)
        return trusted.targets()

    async def _trusted_root(self, now_s: float) -> TrustedMetadata:
        """Return the newer of the stored root and the software's root. Raises: MetadataError, DiskError."""
        shipped = TrustedMetadata(self._root, now_s)
        with suppress(MetadataError):
            stored = TrustedMetadata(await self._stored("root"), now_s)
            return max(shipped, stored, key=lambda each: each.root_version)
        return shipped

    async def _fetched(self, name: str, bytes_max: int) -> bytes:
        data = await self._fetch(f"{name}.json", bytes_max)
        if data is None:
            raise MetadataError(f"{name}: the data center does not have it")
        return data

    async def _stored(self, name: str) -> bytes:
        def read() -> bytes:
            file = f"{_PREFIX}{name}.json"
            try:
                data = self._disk.read(file, 0, self._disk.size(file))
            except DiskError as error:
                if error.kind is DiskErrorKind.UNAVAILABLE:
                    raise
                return b""
            return data[4 : 4 + int.from_bytes(data[:4], "little")]

        return await self._call(read) or b""

    async def _store(self, name: str, data: bytes) -> None:
        def write() -> None:
            content = len(data).to_bytes(4, "little") + data
            replace_file(self._disk, f"{_PREFIX}{name}.json", content, f"{_PREFIX}new")

        try:
            await self._call(write)
        except DiskError as error:
            if error.kind is DiskErrorKind.FULL:
                raise OrderRefused("no-room", f"there is no room for the metadata: {error}") from None
            raise


def plan_update(
    targets: Mapping[str, Target], order: UpdateOrder, slot_sha256: str | None, intended_sha256: str
) -> FetchPlan:
    """Return the plan for the order: the smallest delta from the running slot to the release, or else the whole slot.

    `slot_sha256` is the hash of the running slot, None if it cannot be read; `intended_sha256` is the hash that it
    should have, "" if unknown. A damaged slot can be the source if its blocks are released.

    Raises: OrderRefused, also if no delta fits and the order does not permit fetching the whole slot.
    """
    blocks = _blocks_of(targets, intended_sha256) if slot_sha256 != intended_sha256 else None
    source_sha256 = intended_sha256 if blocks else slot_sha256
    of_release, plans = 0, []
    for target in targets.values():
        try:
            facts = msgspec.convert(target.custom, _DeltaFacts)
        except msgspec.ValidationError:  # not a delta
            continue
        if facts.number != order.release:
            continue
        of_release += 1
        if facts.source != source_sha256:
            continue
        plans.append(
            FetchPlan(
                delta_sha256=target.sha256,
                delta_bytes=target.length,
                source_sha256=facts.source,
                target_sha256=facts.target,
                target_bytes=facts.bytes,
                floor=facts.floor,
                is_application=facts.application,
                **(blocks or {}),
            )
        )
    if not plans and order.may_fetch_slot and (whole := _whole_slot(targets, order.release)) is not None:
        return msgspec.structs.replace(whole, source_sha256=intended_sha256 or slot_sha256 or "")
    if not plans:
        if not of_release:
            raise OrderRefused("not-released", f"the signed metadata has no release {order.release}")
        raise OrderRefused(
            "no-delta", f"none of the {of_release} deltas to release {order.release} is for the running slot"
        )
    plan = min(plans, key=lambda each: each.delta_bytes)
    if plan.delta_bytes > FILE_BYTES_MAX:
        raise OrderRefused("too-large", f"the delta has {plan.delta_bytes} bytes; at most {FILE_BYTES_MAX}")
    return plan


def _whole_slot(targets: Mapping[str, Target], release: int) -> FetchPlan | None:
    """Return the plan that fetches the slot of a release; None if that is not released."""
    for target in targets.values():
        try:
            facts = msgspec.convert(target.custom, _SlotFacts)
        except msgspec.ValidationError:
            continue
        if facts.number == release and (blocks := _blocks_of(targets, facts.target)) is not None:
            return FetchPlan("", 0, "", facts.target, facts.bytes, facts.floor, **blocks)
    return None


def _blocks_of(targets: Mapping[str, Target], slot_sha256: str) -> dict[str, Any] | None:
    """Return the fields of a plan about the blocks of a slot; None if they are not released."""
    for name, target in targets.items():
        whole = targets.get(f"{name.removesuffix('.blocks')}.zst")
        if name.endswith(".blocks") and whole is not None and target.custom.get("target") == slot_sha256:
            return {
                "blocks_sha256": target.sha256,
                "blocks_bytes": target.length,
                "slot_file_sha256": whole.sha256,
            }
    return None
