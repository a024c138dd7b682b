"""The description of an alert: its text, the advice and the parts to bring."""

from __future__ import annotations

from typing import NamedTuple

from settings.profile import load_profile, profile_problem


class AlertDescription(NamedTuple):
    """The text of an alert, the advice, and the parts to bring."""

    text: str
    advice: str
    parts: tuple[str, ...]


def describe(
    model: str, trigger: str, component: str, text: str | None, parts: str | None
) -> AlertDescription:
    """Describe an alert: by the trigger's own `text` and `parts`, one per line, else by the profile of the model.

    In a profile, an error code with the name of the trigger comes first, then the component.
    """
    profile = None if profile_problem(model) else load_profile(model)
    code = profile.errors.get(trigger) if profile else None
    known = profile.components.get(component) if profile else None
    part_names = tuple((parts or "").splitlines())
    if not part_names and code is not None:
        part_names = tuple(code.parts)
    if not part_names and known is not None and parts is None:
        part_names = tuple(known.parts)
    return AlertDescription(
        text or (code.text if code else trigger.replace("-", " ").capitalize()),
        code.advice if code else "",
        part_names,
    )
