"""The languages of the local page."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path
from string import Formatter

import pytest

from agents.box.page.languages import ENGLISH, FOLDER, catalogue, languages, preferred, read_po
from tests.support.agents.page_client import PageClient, page_of
from tests.support.agents.sessions.box import SessionBox, run
from tests.support.wire.grants import OFFER

TRANSLATIONS = [language for language in languages() if language != ENGLISH]


def _texts() -> set[str]:
    """Return all texts of the page that can be translated, as its code marks them."""
    texts: set[str] = set()
    for file in FOLDER.parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
                text = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
                assert isinstance(text, str), f"{file.name}:{node.lineno}: write the text itself"
                texts.add(text)
    return texts


def _names(text: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_catalogue_has_each_text_and_no_other(language: str) -> None:
    texts = read_po((FOLDER / f"{language}.po").read_text("utf-8"))
    assert texts.keys() == _texts()
    for english, text in texts.items():
        assert text, english
        assert _names(text) == _names(english), english


@pytest.mark.skipif(shutil.which("msgfmt") is None, reason="needs gettext")
@pytest.mark.parametrize("language", TRANSLATIONS)
def test_gettext_accepts_a_catalogue(language: str, tmp_path: Path) -> None:
    file = FOLDER / f"{language}.po"
    result = subprocess.run(["msgfmt", "-c", "-o", tmp_path / "mo", file], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("wanted", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en-GB,de;q=0.9", "en"),
        ("fr,de;q=0.5", "de"),
        ("de;q=0.3, en;q=0.4", "en"),
        ("de;q=0", "en"),
        ("de;q=x", "en"),
        (",".join(["xx"] * 10_000), "en"),
    ],
)
def test_the_browser_chooses_the_language(wanted: str, language: str) -> None:
    assert preferred(wanted).language == language


def test_a_page_is_in_one_language() -> None:
    async def act(box: SessionBox) -> None:
        await box.offer()
        client = PageClient(page_of(box), language="de")
        for target in ("/", f"/offer/{OFFER.id.hex()}", f"/offer/{OFFER.id.hex()}?note=wrong"):
            text = await client.get(target)
            assert '<html lang="de">' in text
            shown = set(re.findall(r">([^<>]+)<", text))
            english = {text for text in shown if catalogue("de").gettext(text) != text}
            assert not english

    run(act)


def test_a_catalogue_with_plural_forms_is_refused() -> None:
    with pytest.raises(ValueError, match="msgid_plural is not supported"):
        read_po('msgid "a"\nmsgid_plural "b"\n')
