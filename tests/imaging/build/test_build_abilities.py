"""A manifest states what boxes with the image can do, according to the files in the image's tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.build.build import ENCRYPTION_FILES, abilities
from imaging.signing import TPM_KEYS, TPM_KEYS_KEY
from settings.encrypted import AT_FIRST_START, MANIFEST_KEY


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ((), {}),
        (ENCRYPTION_FILES[1:], {}),
        (ENCRYPTION_FILES, {MANIFEST_KEY: AT_FIRST_START}),
        (["usr/lib64/ossl-modules/tpm2.so"], {TPM_KEYS_KEY: TPM_KEYS}),
        (["usr/lib/x86_64-linux-gnu/ossl-modules/tpm2.so"], {TPM_KEYS_KEY: TPM_KEYS}),
        (["usr/lib64/ossl-modules/legacy.so"], {}),
    ],
)
def test_abilities_are_those_of_the_files(tmp_path: Path, files: list[str], expected: dict[str, str]) -> None:
    for name in files:
        (file := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert abilities(tmp_path) == expected
