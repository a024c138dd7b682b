"""HTML that is escaped by construction: text becomes markup only through `element`."""

from __future__ import annotations

from html import escape
from typing import Final

_VOID: Final = frozenset({"input", "link", "meta"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *content: str | None, **attributes: str | bool | int | None) -> Markup:
    """Return an element. Content that is not `Markup` is escaped; None is omitted.

    An attribute that is False or None is omitted, and one that is True has no value. `class_` is the attribute
    class, and `aria_label` aria-label.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        parts.append(attribute if value is True else f'{attribute}="{escape(str(value))}"')
    opening = f"<{' '.join(parts)}>"
    return Markup(opening if name in _VOID else f"{opening}{join(*content)}</{name}>")


def join(*content: str | None) -> Markup:
    """Return the concatenated content, escaped as in `element`."""
    return Markup("".join(each if isinstance(each, Markup) else escape(each) for each in content if each))
