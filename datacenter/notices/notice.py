"""The content of a notice, and its text: the terms of the evidence, and no other content of reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["raised", "resolved"]


class Notice(NamedTuple):
    """The alert of a notice; `instrument` is empty if the alert is about a box or a site."""

    alert: str
    kind: Kind
    trigger: str
    severity: str
    box: str
    instrument: str
    model: str
    component: str
    site: str
    site_name: str
    region: str
    text: str
    advice: str
    parts: tuple[str, ...]
    terms: tuple[str, ...]
    began_at_ms: int
    ended_at_ms: int | None
    link: str

    @property
    def key(self) -> str:
        """The text by which a receiver recognizes a repetition."""
        return f"{self.alert}:{self.kind}"

    @property
    def about(self) -> str:
        """The instrument, box or site of the alert."""
        return self.instrument or self.box


def title_of(notices: Sequence[Notice]) -> str:
    """Return the title of a message."""
    if len(notices) == 1:
        (notice,) = notices
        return f"[{notice.severity} {notice.kind}] {notice.about}: {notice.text}"
    raised = sum(notice.kind == "raised" for notice in notices)
    return f"{len(notices)} alerts: {raised} raised, {len(notices) - raised} resolved"


def body_of(notices: Sequence[Notice]) -> str:
    """Return the text of a message, a paragraph for each notice."""
    return "\n\n".join("\n".join(_lines(notice)) for notice in notices)


def time_of(ms: int) -> str:
    """Return a time in UTC as in RFC 3339, in seconds."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _lines(notice: Notice) -> list[str]:
    site = f"{notice.site_name} ({notice.site})" if notice.site else ""
    lines = [
        f"{notice.kind.capitalize()}: {notice.text}",
        f"Severity: {notice.severity}",
        f"Instrument: {notice.instrument} ({notice.model})" if notice.instrument else f"Box: {notice.box}",
        f"Site: {site}" if site else "",
        f"Since: {time_of(notice.began_at_ms)}",
        f"Until: {time_of(notice.ended_at_ms)}" if notice.ended_at_ms is not None else "",
        f"Evidence: {', '.join(notice.terms)}" if notice.terms else "",
        f"Advice: {notice.advice}" if notice.advice else "",
        f"Parts: {', '.join(notice.parts)}" if notice.parts else "",
        notice.link,
        f"Notice {notice.key}",
    ]
    return [line for line in lines if line]
