"""The search for texts about patients finds them in every encoding and at any offset, and nothing else."""

from __future__ import annotations

import base64

import pytest

from sim.verdict.found.leaks import CHARSETS, search

NAME = "Vétøquaxil"
CHINESE = "倈粅圽塣"


def is_encodable(text: str, charset: str) -> bool:
    return text.encode(charset, "ignore").decode(charset) == text


PAIRS = [(text, charset) for text in (NAME, CHINESE) for charset in CHARSETS if is_encodable(text, charset)]


@pytest.mark.parametrize(("text", "charset"), PAIRS)
@pytest.mark.parametrize("before", range(4))
def test_a_text_is_found_in_each_character_set_and_in_base64_and_hexadecimal(
    text: str, charset: str, before: int
) -> None:
    plain = bytes(before) + text.encode(charset)
    for data in (
        plain,
        base64.b64encode(plain + b"more"),
        plain.hex().encode(),
        plain.hex().upper().encode(),
    ):
        assert search([(text,)], [("disk", b"before" + data + b"after")]).found


def test_parts_of_texts_and_similar_texts_are_not_found() -> None:
    leaks = search([(NAME, "S123456789")], [("disk", NAME[:5].encode() * 99), ("log", b"S123456780")])
    assert (leaks.found, leaks.patients, leaks.searched) == (
        [],
        1,
        {"disk": len(NAME[:5].encode()) * 99, "log": 10},
    )
