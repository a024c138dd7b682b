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
        (one,) = notices
        return f"[{one.severity} {one.kind}] {one.about}: {one.text}"
    raised = sum(one.kind == "raised" for one in notices)
    return f"{len(notices)} alerts: {raised} raised, {len(notices) - raised} resolved"


def body_of(notices: Sequence[Notice]) -> str:
    """Return the text of a message, a paragraph for each notice."""
    return "\n\n".join("\n".join(_lines(one)) for one in notices)


def time_of(ms: int) -> str:
    """Return a time in UTC as in RFC 3339, in seconds."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _lines(one: Notice) -> list[str]:
    site = f"{one.site_name} ({one.site})" if one.site else ""
    lines = [
        f"{one.kind.capitalize()}: {one.text}",
        f"Severity: {one.severity}",
        f"Instrument: {one.instrument} ({one.model})" if one.instrument else f"Box: {one.box}",
        f"Site: {site}" if site else "",
        f"Since: {time_of(one.began_at_ms)}",
        f"Until: {time_of(one.ended_at_ms)}" if one.ended_at_ms is not None else "",
        f"Evidence: {', '.join(one.terms)}" if one.terms else "",
        f"Advice: {one.advice}" if one.advice else "",
        f"Parts: {', '.join(one.parts)}" if one.parts else "",
        one.link,
        f"Notice {one.key}",
    ]
    return [line for line in lines if line]
