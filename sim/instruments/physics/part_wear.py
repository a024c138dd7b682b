"""The ground truth about the degradation of a part, in the results of a lab's run and of a history."""

from __future__ import annotations

from typing import Literal

import msgspec


class PartWear(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ground truth about the degradation of one part of an instrument; the programs under test never read it.

    Times that lie after the end of the run, or never come, are None, except for `due_ns`.
    """

    serial: str
    model: str
    component: str
    part: str
    code: str
    """The code of the alert that the instrument sends when the part fails."""
    channels: tuple[str, ...]
    """The channels whose readings change."""
    assays: tuple[str, ...]
    """The assays whose controls change."""
    codes: tuple[str, ...]
    """The codes of the alerts that become more frequent."""
    course: Literal["failing", "stable", "sudden"]
    """Whether the part degrades until it fails, degrades to a moderate level only, or fails without symptoms."""
    began_ns: int
    due_ns: int | None
    """The time at which the part would fail, or failed, without a replacement; None for a stable course."""
    failed_ns: int | None = None
    replaced_ns: int | None = None
    """The time at which service or the operator replaced the part."""
