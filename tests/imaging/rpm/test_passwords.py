"""Passwords that were changed on a box survive a start, which recreates /etc from the release."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from imaging.rpm.contents import RECIPE

PASSWORDS = RECIPE / "root/usr/libexec/rap/passwords"
ACCOUNTS = (
    "root:x:0:0::/:/bin/sh\ndaemon:x:2:2::/:/bin/sh\nada:x:1000:1::/:/bin/sh\nbob:x:1001:1::/:/bin/sh\n"
)
RELEASE = (
    "root:!locked::0:99999:7:::\ndaemon:*:1::::::\nada:!!:20000:1:60:7:35::\nbob:$6$old:20000:1:60:7:35::\n"
)
CHANGED = RELEASE.replace("ada:!!:20000:", "ada:$6$new:20500:").replace("root:!locked", "root:$6$root")


class Box:
    """A box whose /etc is recreated from a release at each start."""

    def __init__(self, folder: Path) -> None:
        self.etc, self.kept, self._run = folder / "etc", folder / "kept", folder / "run"
        self.start()

    def start(self, shadow: str = RELEASE, accounts: str = ACCOUNTS) -> None:
        (self.etc / "security").mkdir(parents=True, exist_ok=True)
        (self.etc / "passwd").write_text(accounts)
        (self.etc / "shadow").write_text(shadow)
        (self.etc / "security/opasswd").write_text("")
        self.call("restore")

    def call(self, verb: str) -> None:
        paths = {"ETC": str(self.etc), "KEPT": str(self.kept), "RELEASE": str(self._run)}
        subprocess.run(["sh", PASSWORDS, verb], env={**os.environ, **paths}, check=True)

    def change(self, shadow: str) -> None:
        """Change /etc/shadow while the box runs."""
        (self.etc / "shadow").write_text(shadow)
        self.call("keep")

    @property
    def shadow(self) -> str:
        return (self.etc / "shadow").read_text()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_password_of_a_person_survives_a_start_and_that_of_root_does_not(box: Box) -> None:
    box.change(CHANGED)
    box.start()
    assert box.shadow == RELEASE.replace("ada:!!:20000:", "ada:$6$new:20500:")
    assert [path.stat().st_mode & 0o777 for path in (box.kept, box.kept / "shadow")] == [0o700, 0o600]


def test_the_ages_of_passwords_are_those_of_the_release(box: Box) -> None:
    box.change(CHANGED)
    box.start(RELEASE.replace(":1:60:7:35:", ":1:90:14:35:"))
    assert "ada:$6$new:20500:1:90:14:35::" in box.shadow.splitlines()


def test_a_lock_and_an_expiry_survive(box: Box) -> None:
    box.change(RELEASE.replace("bob:$6$old:20000:1:60:7:35::", "bob:!$6$old:20000:1:60:7:35:20600:"))
    box.start()
    assert "bob:!$6$old:20000:1:60:7:35:20600:" in box.shadow.splitlines()


def test_an_account_with_another_uid_is_another_account(box: Box) -> None:
    box.change(CHANGED)
    box.start(accounts=ACCOUNTS.replace("ada:x:1000", "ada:x:1005"))
    assert box.shadow == RELEASE


def test_an_empty_password_is_not_kept(box: Box) -> None:
    box.change(RELEASE.replace("ada:!!:", "ada::"))
    box.start()
    assert box.shadow == RELEASE


def test_a_password_that_the_release_contains_is_not_kept(box: Box) -> None:
    """A later release may change such a password."""
    box.change(CHANGED)
    box.change(RELEASE)
    box.start(later := RELEASE.replace("$6$old", "$6$later"))
    assert box.shadow == later


def test_earlier_passwords_are_remembered(box: Box) -> None:
    (box.etc / "security/opasswd").write_text("ada:1000:1:$6$first\nroot:0:1:$6$root\n")
    box.change(CHANGED)
    box.start()
    assert (box.etc / "security/opasswd").read_text() == "ada:1000:1:$6$first\n"


def test_a_damaged_change_is_ignored(box: Box) -> None:
    box.change(CHANGED)
    assert sorted(path.name for path in box.kept.iterdir()) == ["opasswd", "shadow"]
    (box.kept / "shadow").write_text("ada:1000:$6$new:20500\nbob:1001:\n")  # damaged: fields are missing
    box.start()
    assert box.shadow == RELEASE
