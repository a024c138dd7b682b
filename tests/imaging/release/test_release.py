"""`rap image release` signs releases, and checks them as a box does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from rap.__main__ import main
from rap.outcome import FAILED, OK, WRONG_INPUT
from tests.support.imaging.releases import key_file
from wire.release.blocks import SLOT_BLOCK_BYTES, BlocksError, parse
from wire.release.delta import Delta

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.fixture
def keys(tmp_path: Path) -> list[str]:
    """The options for the keys of the roles `targets` and `online`, which sign often."""
    targets, online = key_file(tmp_path, "targets"), key_file(tmp_path, "online")
    return ["--targets-key", str(targets), "--online-key", str(online)]


@pytest.fixture
def folder(tmp_path: Path, keys: list[str]) -> Path:
    """A folder with one release."""
    roots = [option for n in range(3) for option in ("--root-key", str(key_file(tmp_path, f"root{n}")))]
    folder = tmp_path / "releases"
    assert main(["image", "release", "create", str(folder), *roots, *keys]) == OK
    (tmp_path / "rap-1.4.0.img").write_bytes(b"image")
    file = str(tmp_path / "rap-1.4.0.img")
    assert main(["image", "release", "add", str(folder), file, "--version", "1.4.0", *keys]) == OK
    return folder


def check(folder: Path, *more: str) -> int:
    return main(
        ["image", "release", "check", str(folder), "--root", str(folder / "metadata/1.root.json"), *more]
    )


def test_a_release_is_accepted_until_it_is_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder, "--json") == OK
    assert json.loads(capsys.readouterr().out) == {"rap-1.4.0.img": {"length": 5, "version": "1.4.0"}}
    (folder / "targets/rap-1.4.0.img").write_bytes(b"imagE")
    assert check(folder) == FAILED
    assert capsys.readouterr().out == "refused: rap-1.4.0.img: has another SHA-256 than the signed one\n"


def test_a_withdrawn_release_is_not_listed(
    folder: Path, keys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "release", "withdraw", str(folder), "rap-1.4.0.img", *keys]) == OK
    assert main(["image", "release", "renew", str(folder), *keys[2:]]) == OK
    assert check(folder) == OK
    assert capsys.readouterr().out == ""


def test_a_release_is_never_replaced(
    folder: Path, keys: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (tmp_path / "rap-1.4.0.img").write_bytes(b"other")
    arguments = [
        "image",
        "release",
        "add",
        str(folder),
        str(tmp_path / "rap-1.4.0.img"),
        "--version",
        "1.4.0",
        *keys,
    ]
    assert main(arguments) == WRONG_INPUT
    assert "a release never changes: give it a new name" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["withdraw", "FOLDER", "nothing"], "nothing is not released; the releases are: rap-1.4.0.img"),
        (["add", "FOLDER", "missing.img", "--version", "1"], "missing.img"),
        (
            ["add", "nowhere", "rap-1.4.0.img", "--version", "1"],
            "nowhere has no releases; create them with `rap image",
        ),
        (["create", "FOLDER", *("--root-key", "root0.pem") * 3], "already exists; add releases to it"),
        (
            ["create", "new", *("--root-key", "root0.pem") * 3],
            "1 different root keys; give 3, of which any 2 sign",
        ),
        (
            ["create", "new", *("--root-key", "rap-1.4.0.img") * 3],
            "is not an unencrypted private key of curve P-256",
        ),
    ],
)
def test_wrong_input_is_refused(
    folder: Path,
    keys: list[str],
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder.parent)
    assert (
        main(["image", "release", *(str(folder) if w == "FOLDER" else w for w in arguments), *keys])
        == WRONG_INPUT
    )
    assert message in capsys.readouterr().err
    assert check(folder) == OK


def test_releases_that_cannot_be_read_are_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "metadata/timestamp.json").unlink()
    assert check(folder) == WRONG_INPUT
    assert "timestamp.json: No such file or directory" in capsys.readouterr().err


def slot_image(path: Path, content: bytes) -> Path:
    """Return an image of 3 MiB: `content`, then zeros."""
    path.write_bytes(content.ljust(3 * 1024 * 1024, b"\0"))
    return path


def test_a_slot_is_released_with_deltas_from_earlier_ones(
    folder: Path, keys: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = Random(1).randbytes(8192)
    first, second = slot_image(tmp_path / "1", content), slot_image(tmp_path / "2", b"fix" + content)
    add = ["image", "release", "add-slot", str(folder)]
    assert main([*add, str(first), "--release", "1.4.0", "--number", "7", *keys]) == OK
    more = ["--release", "1.5.0", "--number", "8", "--floor", "7", "--delta-from", "1.4.0"]
    assert main([*add, str(second), *more, *keys]) == OK
    capsys.readouterr()
    assert check(folder, "--json") == OK
    released = json.loads(capsys.readouterr().out)
    hashes = [sha256(path.read_bytes()).hexdigest() for path in (first, second)]
    delta = released["deltas/1.4.0-1.5.0"]
    assert delta.pop("length") < 1000
    assert delta == {
        "release": "1.5.0",
        "number": 8,
        "floor": 7,
        "source": hashes[0],
        "target": hashes[1],
        "bytes": 3 * 1024 * 1024,
    }
    opened = Delta.open(*reader(folder / "targets/deltas/1.4.0-1.5.0"))
    result = bytearray()
    source = first.read_bytes()
    list(
        opened.apply(
            lambda at, length: source[at : at + length], lambda _, data: result.extend(data), no_read
        )
    )
    assert result == second.read_bytes()


def reader(path: Path) -> tuple[Callable[[int, int], bytes], int]:
    data = path.read_bytes()
    return lambda offset, length: data[offset : offset + length], len(data)


def no_read(offset: int, length: int) -> bytes:
    raise AssertionError("a delta without repeats read its own result")


def test_each_block_of_a_slot_can_be_decompressed_alone(
    folder: Path, keys: list[str], tmp_path: Path
) -> None:
    image = slot_image(tmp_path / "slot", Random(2).randbytes(1024 * 1024 + 5))
    arguments = ["--release", "1.4.0", "--number", "1"]
    assert main(["image", "release", "add-slot", str(folder), str(image), *arguments, *keys]) == OK
    content, packed = image.read_bytes(), (folder / "targets/slots/1.4.0.zst").read_bytes()
    blocks = parse((folder / "targets/slots/1.4.0.blocks").read_bytes(), len(content))
    assert [block.frame_bytes > 0 for block in blocks] == [True, True, False]
    for number, block in enumerate(blocks):
        part = content[number * SLOT_BLOCK_BYTES : (number + 1) * SLOT_BLOCK_BYTES]
        assert block.sha256 == sha256(part).digest()
        if block.frame_bytes:
            assert (
                zstd.decompress(packed[block.frame_offset : block.frame_offset + block.frame_bytes]) == part
            )
    with pytest.raises(BlocksError, match="has 3 blocks in 132 bytes"):
        parse(b"1" * 131, len(content))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--release", "a/b", "--number", "9"], "'a/b' is not a valid release name"),
        (["--release", "b", "--number", "7"], "the number 7 is already used; the next one is 8"),
        (
            ["--release", "b", "--number", "8", "--floor", "9"],
            "the floor 9 must be between 0 and the number 8",
        ),
        (["--release", "b", "--number", "8", "--delta-from", "x"], "the releases are: slots/a.zst"),
        (["--release", "a", "--number", "8"], "slots/a.zst is already released"),
    ],
)
def test_a_slot_that_cannot_be_released_changes_nothing(
    folder: Path,
    keys: list[str],
    tmp_path: Path,
    arguments: list[str],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = str(slot_image(tmp_path / "slot", b"content"))
    add = ["image", "release", "add-slot", str(folder), image, *keys]
    assert main([*add, "--release", "a", "--number", "7"]) == OK
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main([*add, *arguments]) == WRONG_INPUT
    assert reason in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_command_makes_a_delta_and_refuses_a_file_that_is_no_slot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = slot_image(tmp_path / "1", b"1" * 4096), slot_image(tmp_path / "2", b"2" * 4096)
    arguments = ["image", "release", "delta", str(first), str(second), "-o", str(tmp_path / "delta")]
    assert main([*arguments, "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["bytes"] == (tmp_path / "delta").stat().st_size
    second.write_bytes(b"2")
    assert main(arguments) == WRONG_INPUT
    assert f"{second}: has 1 bytes" in capsys.readouterr().err
