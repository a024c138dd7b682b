"""The languages of the page: English in the code, others in gettext catalogues next to it.

A catalogue is `languages/LANGUAGE.po`, the format of GNU gettext that translators' tools edit. It is read at the
first use, so that no compiled file has to be kept up to date.
"""

from __future__ import annotations

import ast
from functools import cache
from gettext import NullTranslations
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("languages")
ENGLISH: Final = "en"


class MessageCatalogue(NullTranslations):
    """The texts of one language; texts without a translation remain in English."""

    def __init__(self, language: str, texts: dict[str, str]) -> None:
        super().__init__()
        self.language = language
        self._texts = texts

    def gettext(self, message: str) -> str:
        """Return the text in this language."""
        return self._texts.get(message) or message


def languages() -> list[str]:
    """Return the codes of the available languages, English first."""
    return [ENGLISH, *sorted(path.stem for path in FOLDER.glob("*.po"))]


@cache
def catalogue(language: str) -> MessageCatalogue:
    """Return the texts of one of `languages()`."""
    texts = {} if language == ENGLISH else read_po((FOLDER / f"{language}.po").read_text("utf-8"))
    return MessageCatalogue(language, texts)


def preferred(accept_language: str) -> MessageCatalogue:
    """Return the texts for the value of `Accept-Language` (RFC 9110, 12.5.4); English if nothing fits."""
    wanted: list[tuple[float, str]] = []
    for item in accept_language.split(",")[:20]:
        tag, _, weight = item.partition(";")
        try:
            quality = float(weight.partition("=")[2]) if weight else 1.0
        except ValueError:
            continue
        wanted.append((-quality, tag.strip().lower().partition("-")[0]))
    known = languages()
    for quality, language in sorted(wanted, key=lambda entry: entry[0]):
        if language in known and quality:
            return catalogue(language)
    return catalogue(ENGLISH)


def read_po(text: str) -> dict[str, str]:
    """Return the translations of a catalogue without plural forms and contexts. Raises: ValueError for those."""
    entries: list[dict[str, str]] = []
    key = ""
    for line in text.splitlines():
        keyword, _, value = line.strip().partition(" ")
        if keyword == "msgid":
            entries.append({})
        if keyword in ("msgid", "msgstr"):
            key, quoted = keyword, value
        elif keyword.startswith('"'):
            quoted = line.strip()
        elif not keyword or keyword.startswith("#"):
            continue
        else:
            raise ValueError(f"{keyword} is not supported in a catalogue; write msgid and msgstr")
        entries[-1][key] = entries[-1].get(key, "") + ast.literal_eval(quoted)
    return {entry["msgid"]: entry["msgstr"] for entry in entries if entry["msgid"]}
