"""Package repositories: reading metadata, and resolving a %packages section."""

from __future__ import annotations

from pathlib import Path

import pytest
from pykickstart.parser import KickstartParser, Packages

from imaging.kickstart.handler import new_handler
from imaging.repository.repository import Repository, RepositoryError
from imaging.repository.versions import Dependency, Evr, rpmvercmp
from tests.support.imaging.repositories import BOX, BOX_COMPS, PACK, Comps, Rpm, write_repository


def section(text: str) -> Packages:
    handler = new_handler("RHEL9")
    KickstartParser(handler).readKickstartFromString(f"%packages\n{text}\n%end\n")
    return handler.packages


def repository(folder: Path, *rpms: Rpm, comps: Comps | None = None) -> Repository:
    return Repository.load(write_repository(folder / "repo", rpms, comps))


@pytest.mark.parametrize("packing", PACK)
def test_every_compression_gives_the_same_packages(tmp_path: Path, packing: str) -> None:
    loaded = Repository.load(write_repository(tmp_path, BOX, BOX_COMPS, packing))
    assert sorted(loaded.by_name) == sorted(rpm.name for rpm in BOX)
    assert loaded.by_name["rap-box"][0].requires == [
        Dependency("python3", "GE", Evr(0, "1.0", "")),
        Dependency("/usr/bin/bash"),
    ]
    assert loaded.groups["core"].members == ["bash", "chrony-daemon"]
    assert loaded.environments["minimal-environment"].name == "minimal-environment"
    assert [package.name for package in loaded.files["/usr/lib/systemd/system/sshd.service"]] == [
        "openssh-server"
    ]


def test_requirements_are_resolved_by_name_capability_and_file(tmp_path: Path) -> None:
    loaded = repository(
        tmp_path,
        Rpm("a", requires=("b", "libc.so.6()(64bit)", "/usr/bin/tool", "/usr/share/deep")),
        Rpm("b", requires=("rpmlib(CompressedFileNames)", "config(b)")),
        Rpm("glibc", provides=("libc.so.6()(64bit)",)),
        Rpm("tool", files=("/usr/bin/tool",)),
        Rpm("deep", files=("/usr/share/deep",)),
        Rpm("alone"),
    )
    resolution = loaded.resolve(section("a"))
    assert sorted(resolution.installed) == ["a", "b", "deep", "glibc", "tool"]
    assert resolution.unmet == []


@pytest.mark.parametrize(
    ("requirement", "met"),
    [
        (("b", "GE", "2.0"), True),
        (("b", "GT", "2.0"), False),
        (("b", "EQ", "2.0"), True),
        (("b", "LT", "2.0"), False),
        (("b", "LE", "2.0~rc1"), False),
        ("(c or b)", True),
        ("(c or d)", False),
        ("(b and c)", False),
        ("(b >= 1.9 with b < 2.1)", True),
        ("(b >= 2.1 or c)", False),
        ("(c if d)", True),
    ],
)
def test_versions_and_boolean_requirements_are_evaluated(
    tmp_path: Path, requirement: str | tuple[str, str, str], met: bool
) -> None:
    loaded = repository(tmp_path, Rpm("a", requires=(requirement,)), Rpm("b", version="2.0"))
    assert (loaded.resolve(section("a")).unmet == []) is met


def test_an_exclusion_that_prevents_installation_is_named(tmp_path: Path) -> None:
    loaded = repository(tmp_path, Rpm("a", requires=("b", "c")), Rpm("b"))
    resolution = loaded.resolve(section("a\n-b"))
    assert resolution.unmet == [("a", "b", True), ("a", "c", False)]


def test_another_provider_replaces_an_excluded_one(tmp_path: Path) -> None:
    loaded = repository(
        tmp_path,
        Rpm("a", requires=("mta",)),
        Rpm("mail", provides=("mta",)),
        Rpm("postfix", provides=("mta",)),
    )
    assert sorted(loaded.resolve(section("a\n-mail")).installed) == ["a", "postfix"]


def test_packages_are_selected_by_name_glob_architecture_file_or_capability(tmp_path: Path) -> None:
    loaded = repository(
        tmp_path,
        Rpm("lib-a", files=("/usr/bin/lib-a",), provides=("web",)),
        Rpm("lib-b"),
        Rpm("other"),
    )
    for entry, names in {
        "lib-*": ["lib-a", "lib-b"],
        "lib-b.x86_64": ["lib-b"],
        "/usr/bin/lib-a": ["lib-a"],
        "web": ["lib-a"],
    }.items():
        assert sorted(loaded.resolve(section(entry)).installed) == names
    for entry in ("lib-c", "none-*", "lib-b.s390x", "/usr/bin/none"):
        assert loaded.resolve(section(entry)).unknown == [entry]


def test_groups_environments_and_core_are_expanded(tmp_path: Path) -> None:
    comps = Comps({"core": ("a",), "web": ("b", "gone")}, {"server": ("core", "web")})
    loaded = repository(tmp_path, Rpm("a"), Rpm("b"), Rpm("c"), comps=comps)
    assert sorted(loaded.resolve(section("c")).installed) == ["a", "c"]
    assert sorted(loaded.resolve(section("@web")).installed) == ["a", "b"]
    assert sorted(loaded.resolve(section("@^server\n-b")).installed) == ["a"]
    assert loaded.resolve(section("@wbe")).unknown == ["@wbe"]
    assert loaded.nearest("@wbe") == ""
    assert loaded.nearest("@^serve") == "@^server"


def test_several_repositories_are_searched_as_one(tmp_path: Path) -> None:
    one = Repository.load(write_repository(tmp_path / "1", [Rpm("a", requires=("b",))]))
    other = Repository.load(
        write_repository(
            tmp_path / "2", [Rpm("b", version="1.0"), Rpm("b", version="1.10"), Rpm("b", version="1.9")]
        )
    )
    resolution = Repository.joined([one, other]).resolve(section("a"))
    assert resolution.unmet == []
    assert str(resolution.installed["b"].evr.version) == "1.10", "the newest version must be selected"


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0", "1.0.1"),
        ("1.9", "1.10"),
        ("1.0~rc1", "1.0"),
        ("1.0", "1.0^git1"),
        ("1.0^git1", "1.0.1"),
        ("1.a", "1.1"),
        ("1.0a", "1.0b"),
        ("2.0.1a", "2.0.1b"),
        ("1.0~rc1", "1.0~rc2"),
        ("1.0^", "1.0.1"),
        ("5.14.0-70", "5.14.0-427"),
    ],
)
def test_versions_compare_as_in_rpm(older: str, newer: str) -> None:
    assert rpmvercmp(older, newer) == -1
    assert rpmvercmp(newer, older) == 1
    assert rpmvercmp(older, older) == 0
    assert rpmvercmp("1_0", "1.0") == 0


def test_the_error_for_a_folder_that_is_not_a_repository_states_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="run `createrepo_c"):
        Repository.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("repomd.xml", b"<repomd>"),
        ("repomd.xml", b"<repomd></repomd>"),
        (
            "repomd.xml",
            b'<repomd><data type="primary"><location href="repodata/primary.sqlite"/></data></repomd>',
        ),
        ("primary.xml.gz", b"not gzip"),
        ("primary.xml.gz", None),
        ("primary.xml.gz", b"<metadata><package><version epoch='x'/></package></metadata>"),
        ("group.xml.gz", b"<comps><packagereq>a</packagereq></comps>"),
    ],
)
def test_damaged_metadata_is_reported(tmp_path: Path, name: str, content: bytes | None) -> None:
    file = write_repository(tmp_path, BOX) / "repodata" / name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(PACK["gz"](content) if content[:1] == b"<" and name != "repomd.xml" else content)
    with pytest.raises(RepositoryError, match="createrepo_c"):
        Repository.load(tmp_path)
