"""`rap profile check` reports all problems of all files: in the profile, its dialect and its signature."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rap.__main__ import main
from settings.profile import DIRECTORY

MODEL = "modular-analyzer"


def test_all_problems_of_all_profiles_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    (key := tmp_path / "vendor.pub").write_bytes(
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    text = (DIRECTORY / f"{MODEL}.toml").read_text()
    (wrong := tmp_path / "wrong" / f"{MODEL}.toml").parent.mkdir()
    wrong.write_text('colour = "red"\n' + text.replace(f'model = "{MODEL}"', 'model = "other"', 1))
    (unsigned := tmp_path / f"{MODEL}.toml").write_text(text)
    missing = tmp_path / "missing.toml"
    files = [str(file) for file in (wrong, missing, unsigned)]
    assert main(["profile", "check", *files, "--key", str(key)]) == 1
    beginnings = [
        f"{wrong}:1: colour: unknown key",
        f"{wrong}:2: model: the file must be named other.toml, or the model {MODEL}",
        f"{wrong}: has no signature",
        f"{missing}: cannot be read",
        f"{unsigned}: has no signature",
    ]
    lines = capsys.readouterr().out.splitlines()
    assert [line[: len(beginning)] for line, beginning in zip(lines, beginnings, strict=True)] == beginnings
