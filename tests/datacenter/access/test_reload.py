"""A running data center reloads changed access files; sessions remain valid after a restart."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.datacenter.programs import configure
from tests.support.eventually import WAIT_SECONDS_MAX, poll_until

PROGRAM = """
import sys
from datacenter.main import run_datacenter
run_datacenter(sys.argv[1], ready=lambda ports: print(ports.staff, flush=True))
"""
ENGINEER = '[staff.engineer]\nroles = ["service-engineer"]\nscope = ["everywhere"]\n'
AUDITOR = '[staff.auditor]\nroles = ["auditor"]\nscope = ["everywhere"]\n'


class Running:
    """A data center in a separate process, with its log file."""

    def __init__(self, program: subprocess.Popen[str], log: Path) -> None:
        assert program.stdout is not None
        self.process, self._log = program, log
        self.address = f"http://127.0.0.1:{program.stdout.readline().strip()}"

    def log(self) -> str:
        return self._log.read_text()

    def sign_in(self, staff: str) -> httpx.Client:
        browser = httpx.Client(base_url=self.address, timeout=WAIT_SECONDS_MAX)
        token = re.search(r'name="form_token" value="(\w+)"', browser.get("/sign-in").text)
        assert token is not None
        answer = browser.post("/sign-in", data={"form_token": token[1], "staff": staff, "next": "/"})
        assert answer.status_code == 303
        return browser


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    log = folder / "log"
    command = [sys.executable, "-c", PROGRAM, str(folder / "dc.toml")]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as program,
    ):
        try:
            yield Running(program, log)
        finally:
            program.terminate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    file, _ = configure(tmp_path, f"sqlite:///{tmp_path / 'store.db'}")
    (tmp_path / "staff.toml").write_text(ENGINEER + AUDITOR)
    file.write_text(file.read_text() + '[staff]\ndirectory = "staff.toml"\nport = 0\ndevelopment = true\n')
    return tmp_path


def test_a_changed_directory_applies_to_open_sessions_and_a_wrong_one_is_ignored(folder: Path) -> None:
    staff = folder / "staff.toml"
    with running(folder) as program:
        engineer, auditor = program.sign_in("engineer"), program.sign_in("auditor")
        assert engineer.get("/").status_code == auditor.get("/audit").status_code == 200

        staff.write_text(ENGINEER.replace("service-engineer", "servise-engineer"))
        poll_until(lambda: "previous ones remain in force" in program.log())
        assert "staff.toml:2: staff.engineer.roles" in program.log() and "service-engineer" in program.log()
        assert engineer.get("/").status_code == auditor.get("/audit").status_code == 200

        staff.write_text(ENGINEER)
        poll_until(lambda: auditor.get("/audit").status_code == 401)
        poll_until(lambda: "read again: 1 staff" in program.log())
        assert engineer.get("/").status_code == 200

        staff.write_text(ENGINEER.replace("everywhere", "country/DE") + AUDITOR)
        poll_until(lambda: auditor.get("/audit").status_code == 200)
        recorded = "/audit.csv?action=manage-staff"
        poll_until(lambda: auditor.get(recorded).text.count("\n") == 4)
        text = auditor.get(recorded).text
        assert "auditor" in text and "removed: roles auditor; scope everywhere; " in text
        roles = "roles service-engineer; scope"
        assert f"now: {roles} country/DE; before: {roles} everywhere" in text

        staff.write_text(ENGINEER + "active = false\n")
        program.process.send_signal(signal.SIGHUP)
        poll_until(lambda: engineer.get("/").status_code == 401)
        for browser in (engineer, auditor):
            browser.close()


def test_a_session_remains_valid_after_a_restart_until_sign_out(folder: Path) -> None:
    with running(folder) as program, closing(program.sign_in("engineer")) as engineer:
        cookies = dict(engineer.cookies)
        assert engineer.get("/").status_code == 200
    with running(folder) as program, httpx.Client(base_url=program.address, cookies=cookies) as browser:
        page = browser.get("/", timeout=WAIT_SECONDS_MAX)
        assert page.status_code == 200
        token = re.search(r'name="form_token" value="(\w+)"', page.text)
        assert token is not None
        assert browser.post("/sign-out", data={"form_token": token[1]}).status_code == 303
        with httpx.Client(base_url=program.address, cookies=cookies) as again:
            assert again.get("/").status_code == 401
