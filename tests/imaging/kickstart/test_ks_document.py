"""Reading kickstarts: line numbers, included files, and files that a %pre script writes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pykickstart.parser import KickstartParser

from imaging.kickstart.document import KickstartUnreadable, read
from imaging.kickstart.handler import new_handler
from imaging.kickstart.lint import UnknownVersion, lint, version_of


def write(folder: Path, text: str, name: str = "a.ks") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_every_command_and_section_has_its_line_number(tmp_path: Path) -> None:
    ks = read(write(tmp_path, "# a\ntext\n\n%post --log=/x\necho\n%end\nreboot\n"), "RHEL9")
    assert [(command.name, command.location.line) for command in ks.commands] == [("text", 2), ("reboot", 7)]
    (post,) = ks.sections_named("%post")
    assert [(location.line, text) for location, text in post.lines()] == [(5, "echo")]
    assert post.script.logfile == "/x"


def test_reading_continues_after_every_error(tmp_path: Path) -> None:
    text = 'nonsense\nlang "en\n%adon x\n%end\npart /\n%post\necho\n%packages\na\n%end\nreboot\n'
    ks = read(write(tmp_path, text), "RHEL9")
    assert [refusal.location.line for refusal in ks.refusals if not refusal.deprecated] == [1, 2, 3, 6]
    assert ks.commands[-1].name == "reboot"
    assert ks.packages.packageList == ["a"]


def test_a_line_that_crashes_pykickstart_is_reported_as_an_error(tmp_path: Path) -> None:
    ks = read(write(tmp_path, "%packages\n-\n%end\ntext\n"), "RHEL9")
    assert [(r.location.line, r.message) for r in ks.refusals] == [
        (1, "pykickstart cannot read it (string index out of range)")
    ]
    assert ks.commands[-1].name == "text"


def test_an_end_without_a_section_is_reported(tmp_path: Path) -> None:
    ks = read(write(tmp_path, "text\n%end\nreboot\n"), "RHEL9")
    assert [(r.location.line, r.message) for r in ks.refusals] == [(2, "there is no section to end")]
    assert ks.commands[-1].name == "reboot"


def test_an_included_file_has_its_own_line_numbers(tmp_path: Path) -> None:
    other = write(tmp_path, "\npart / --fstype=ext5 --size=1\n", "disk.ks")
    ks = read(write(tmp_path, "text\n%include disk.ks\n"), "RHEL9")
    assert [(c.name, c.location.file, c.location.line) for c in ks.commands][1:] == [("part", str(other), 2)]


def test_files_that_include_each_other_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, "%include a.ks\n", "b.ks")
    ks = read(write(tmp_path, "%include b.ks\n"), "RHEL9")
    assert "nested too deeply" in ks.refusals[0].message


@pytest.mark.parametrize("redirect", ["cat > /tmp/x <<EOF", "cat <<'EOF' >/tmp/x", 'cat <<-"EOF" >> /tmp/x'])
def test_a_here_document_of_pre_is_read_as_commands(tmp_path: Path, redirect: str) -> None:
    script = f"%include /tmp/x\n%pre\n{redirect}\npart / --size=1 --passphrase=$p\nEOF\n%end\n"
    ks = read(write(tmp_path, script), "RHEL9")
    assert [(c.name, c.location.line, c.data.passphrase) for c in ks.commands] == [("part", 4, "$p")]
    assert not ks.open_ended


def test_a_local_file_with_the_name_of_a_file_written_by_pre_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, "reboot\n", "x")
    script = f"%include {tmp_path}/x\n%pre\ncat > {tmp_path}/x <<EOF\npoweroff\nEOF\n%end\n"
    assert [command.name for command in read(write(tmp_path, script), "RHEL9").commands] == ["poweroff"]


@pytest.mark.parametrize(
    "script",
    [
        'echo "part / --size=$size" > /tmp/x',
        "cat > /tmp/x <<EOF\npart / --size=$size\nEOF",
        "cat > /tmp/x <<EOF\npart / --size=1 --ondisk=$disk\nEOF",
    ],
)
def test_values_that_a_shell_substitutes_are_unknown(tmp_path: Path, script: str) -> None:
    path = write(tmp_path, f"%include /tmp/x\n%pre\n{script}\n%end\n")
    ks = read(path, "RHEL9")
    assert ks.open_ended
    assert ks.refusals == []
    assert not {"no-root", "not-separate", "no-packages"} & {finding.rule for finding in lint(path).findings}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfet\0e\0x\0t\0", ":1: is UTF-16, .*iconv -f UTF-16"),
        ("text\n".encode("utf-16-le"), ":1: is UTF-16"),
        ("text\n".encode("utf-16-be"), ":1: is UTF-16"),
        (b"text\nreboot\0\n", ":2: has a NUL byte; remove it"),
        (b"text\nlang M\xfcnchen\n", ":2: is not UTF-8 text; .*iconv -f LATIN1"),
        (None, ": cannot be read: No such file"),
    ],
)
def test_a_file_that_is_not_utf_8_text_is_an_error(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "a.ks"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KickstartUnreadable, match=str(path) + message):
        read(path, "RHEL9")


@pytest.mark.parametrize(
    "target", ["/usr/share/anaconda/interactive-defaults.ks", "/run/install/repo/disk.ks"]
)
def test_included_files_of_the_running_installer_are_unknown(tmp_path: Path, target: str) -> None:
    ks = read(write(tmp_path, f"%include {target}\n"), "RHEL9")
    assert ks.open_ended
    assert ks.missing_includes == []


def test_a_file_that_pre_changes_afterwards_is_unknown(tmp_path: Path) -> None:
    script = "%include /tmp/x\n%pre\ncat > /tmp/x <<EOF\n?certificate\nEOF\nsed -i s/?/%/ /tmp/x\n%end\n"
    ks = read(write(tmp_path, script), "RHEL9")
    assert ks.open_ended
    assert ks.refusals == []


@pytest.mark.parametrize(
    ("header", "release", "version"),
    [
        ("#version=RHEL10\n", "", "RHEL10"),
        ("#version=RHEL9.4\n", "", "RHEL9"),
        ("#version=DEVEL\n", "", "RHEL9"),
        ("", "", "RHEL9"),
        ("#version=RHEL10\n", "rocky9", "RHEL9"),
        ("#version=F40\n", "centos-stream10", "RHEL10"),
    ],
)
def test_the_kickstart_version_follows_from_the_release(
    tmp_path: Path, header: str, release: str, version: str
) -> None:
    assert version_of(write(tmp_path, header), release) == version


def test_a_version_without_rules_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnknownVersion, match="is for F40; there are rules for RHEL9, RHEL10"):
        version_of(write(tmp_path, "#version=F40\n"))


def test_each_handler_is_new_and_the_import_path_does_not_grow() -> None:
    first, path = new_handler("RHEL9"), sys.path.copy()
    KickstartParser(first).readKickstartFromString(
        "timezone UTC\nuser --name=box\n%packages\nnftables\n%end\n"
    )
    second = new_handler("RHEL9")
    assert (second.timezone.timezone, second.user.userList, second.packages.packageList) == ("", [], [])
    new_handler("RHEL10")
    assert sys.path == path
