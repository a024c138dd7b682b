"""The output and exit statuses of `rap image ks`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rap.__main__ import main
from rap.outcome import FAILED, OK, WRONG_INPUT
from tests.support.imaging.repositories import BOX, BOX_COMPS, write_repository
from tests.support.imaging.sites import write_site


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return write_site(tmp_path)


@pytest.fixture
def kickstart(site: Path) -> Path:
    path = site.parent / "box.ks"
    assert main(["image", "ks", str(site), "-o", str(path)]) == OK
    return path


def test_a_kickstart_is_written_to_standard_output_or_a_file(
    site: Path, kickstart: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "ks", str(site)]) == OK
    assert capsys.readouterr().out == kickstart.read_text()
    assert main(["image", "ks", str(site), "--release", "rocky10"]) == OK
    assert capsys.readouterr().out.startswith("#version=RHEL10\n# Rocky Linux 10")


def test_a_valid_kickstart_passes(
    kickstart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = write_repository(tmp_path / "repo", BOX, BOX_COMPS)
    line = ["image", "ks", "--check", str(kickstart), "--repo", str(repository), "--board", "rap-4"]
    assert main([*line, "--disk-bytes", "32000000000"]) == OK
    assert capsys.readouterr().out == f"{kickstart}: OK (RHEL9)\n"


def test_a_finding_names_line_fault_and_correction(
    kickstart: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = kickstart.read_text().replace("selinux --enforcing", "selinux --permissive")
    kickstart.write_text(text)
    line = text.splitlines().index("selinux --permissive") + 1
    assert main(["image", "ks", "--check", str(kickstart)]) == FAILED
    finding_line, correction = capsys.readouterr().out.splitlines()
    assert finding_line == f"{kickstart}:{line}: selinux-off: SELinux is not in enforcing mode [warning]"
    assert correction == "    write `selinux --enforcing`"
    assert main(["image", "ks", "--check", str(kickstart), "--json"]) == FAILED
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "fail"
    assert document["version"] == "RHEL9"
    (finding,) = document["findings"]
    assert finding["line"] == line
    assert finding["severity"] == "warning"
    assert finding["rule"] == "selinux-off"
    assert "RHEL-09-431010" in finding["source"]


def test_with_errors_only_warnings_are_neither_shown_nor_counted(
    kickstart: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = kickstart.read_text().replace("selinux --enforcing", "selinux --permissive")
    kickstart.write_text(text)
    assert main(["image", "ks", "--check", str(kickstart), "--errors"]) == OK
    kickstart.write_text(text.replace("zerombr", "zerombr\nlang xx_YY.UTF-8"))
    capsys.readouterr()
    assert main(["image", "ks", "--check", str(kickstart), "--errors"]) == FAILED
    output = capsys.readouterr().out
    assert "locale-unknown" in output
    assert "selinux-off" not in output
    assert "[warning]" not in output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("image ks", "give either a site file to assemble from, or --check"),
        ("image ks site.toml --check box.ks", "give either a site file"),
        ("image ks nothing.toml", "nothing.toml: cannot be read: No such file"),
        ("image ks site.toml --release rhel8", "must be one of rhel9, almalinux9"),
        ("image ks site.toml -o nowhere/box.ks", "--output nowhere/box.ks: cannot be written"),
        ("image ks --check nothing.ks", "nothing.ks: cannot be read"),
        ("image ks --check box.ks --repo nowhere", "nowhere: is not a package repository"),
        ("image ks --check box.ks --board rap-5", "known boards: "),
        ("image ks --check box.ks --disk-bytes 32G", "a whole number of bytes"),
        ("image ks --check box.ks --release f40", "there is no release 'f40'; use one of rhel9"),
        (
            "image ks --check fedora.ks",
            "is for F40; there are rules for RHEL9, RHEL10: choose one with --release",
        ),
        ("image ks site.toml --board rap-4", "--board requires --check"),
        ("image ks --check box.ks -o out.ks", "--output requires a site file"),
    ],
)
def test_wrong_input_exits_with_2_and_writes_nothing(
    line: str,
    message: str,
    kickstart: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(kickstart.parent)
    Path("fedora.ks").write_text("#version=F40\ntext\n")
    before = sorted(path.name for path in Path().iterdir())
    assert main(line.split()) == WRONG_INPUT
    out, err = capsys.readouterr()
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    assert sorted(path.name for path in Path().iterdir()) == before
