"""Writes docs/reference/instruments.md from the profiles; `make golden` runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from settings.profile import Profile, load_profile, profile_names

PAGE: Final = Path("docs/reference/instruments.md")
HEAD: Final = """\
# Instruments

Written by `tools/instrument_reference.py` from `profiles/`; `make golden` regenerates it.

The codes in the reports of each model, and their meaning. All values are integers.
"""


def render() -> str:
    """Return the page."""
    return HEAD + "".join(line for name in profile_names() for line in _profile(load_profile(name)))


def _profile(profile: Profile) -> Iterator[str]:
    yield f"\n## `{profile.model}`, version {profile.version}\n\n"
    protocol = "the vendor's agent" if profile.speaks == "agent" else profile.speaks
    yield f"{profile.summary[0].upper()}{profile.summary[1:]}. Protocol: {protocol}.\n"
    if profile.verbs:
        yield f"Commands: {', '.join(f'`{verb}`' for verb in profile.verbs)}.\n"
    if profile.desktop_port is not None:
        service = (
            "VNC" if profile.desktop_service == "rfb" else "a TCP service that is forwarded without parsing"
        )
        yield f"Desktop: port {profile.desktop_port}, {service}.\n"
    if profile.desktop is not None:
        width, height = profile.desktop.size
        areas = ", ".join(f"{w}×{h} at ({x}, {y})" for x, y, w, h in profile.desktop.masked)
        yield f"Masked on its screen of {width}×{height} pixels: {areas}.\n"
    if profile.channels:
        yield "\n| channel | meaning | unit | resolution | normal |\n|---|---|---|---|---|\n"
    for name, channel in profile.channels.items():
        normal = f"{channel.normal[0]}–{channel.normal[1]}" if channel.normal else ""
        yield f"| `{name}` | {channel.text} | {channel.unit} | {channel.resolution} | {normal} |\n"
    if profile.assays:
        yield f"\nAssays: {', '.join(f'`{name}` {text}' for name, text in profile.assays.items())}.\n"
    if profile.errors:
        yield "\n| code | component | severity | meaning | advice |\n|---|---|---|---|---|\n"
    for code, error in profile.errors.items():
        yield f"| `{code}` | `{error.component}` | {error.severity} | {error.text} | {error.advice} |\n"


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
