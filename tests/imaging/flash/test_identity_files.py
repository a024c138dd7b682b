"""The files of a box's identity, before they are written to a disk."""

from __future__ import annotations

import pytest

from imaging.flash.identity import make
from settings import identity_archive
from settings.identity_archive import IdentityError

SITE = b"[box]\n"


def test_an_identity_has_a_key_the_serial_and_the_site() -> None:
    files = make("RAP-0001", SITE)
    assert files[identity_archive.SERIAL] == b"RAP-0001\n"
    assert files[identity_archive.SITE] == SITE
    assert files[identity_archive.KEY].startswith(b"-----BEGIN")


def test_the_same_box_keeps_its_key_and_another_box_gets_a_new_one() -> None:
    before = make("RAP-0001", SITE)
    assert make("RAP-0001", b"new", before) == {**before, identity_archive.SITE: b"new"}
    assert make("RAP-0002", SITE, before)[identity_archive.KEY] != before[identity_archive.KEY]


@pytest.mark.parametrize("serial", ["", "rap-1", "-RAP", "RAP 1", "A" * 25, "RAP-1\n"])
def test_the_error_for_an_invalid_serial_has_a_valid_example(serial: str) -> None:
    with pytest.raises(IdentityError, match="such as RAP-0001"):
        make(serial, SITE)


def test_a_serial_has_up_to_24_characters() -> None:
    assert make("A" * 24, SITE)[identity_archive.SERIAL] == b"A" * 24 + b"\n"
