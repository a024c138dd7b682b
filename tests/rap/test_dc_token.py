"""`rap dc token`: tokens are created, listed without secrets, and revoked; each change is in the audit log."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacenter.access.tokens import find_token
from datacenter.audit.trail import AuditTrail
from datacenter.store.store import Store
from rap.__main__ import main
from tests.support.datacenter.programs import configure

STAFF = '[staff.engineer]\nroles = ["service-engineer"]\nscope = ["country/DE"]\n'


@pytest.fixture
def config(tmp_path: Path) -> str:
    file, _ = configure(tmp_path, f"sqlite:///{tmp_path / 'store.db'}")
    (tmp_path / "staff.toml").write_text(STAFF)
    file.write_text(file.read_text() + '[staff]\ndirectory = "staff.toml"\nport = 0\ndevelopment = true\n')
    return str(file)


def test_a_token_is_created_listed_and_revoked(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--staff", "engineer", "--purpose", "monitoring", "--days", "30", "--config", config]
    assert main(["dc", "token", "create", *arguments]) == 0
    text, secret = capsys.readouterr().out.splitlines()
    name = text.split()[1]
    assert main(["dc", "token", "list", "--config", config]) == 0
    listed = capsys.readouterr().out
    assert name in listed and "valid" in listed and secret not in listed
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    token = find_token(store, secret)
    assert token is not None and token.limits.scope == {"country/DE"} and token.limits.actions == {"read"}
    assert main(["dc", "token", "revoke", name, "--config", config]) == 0
    assert main(["dc", "token", "revoke", "none", "--config", config]) == 1
    assert AuditTrail(store).head().number == 2
    store.close()


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        (["--staff", "nobody"], "not an active member"),
        (["--purpose", "servce"], "did you mean service?"),
        (["--days", "0"], "from 1 to 366"),
        (["--action", "veiw"], "did you mean view?"),
    ],
)
def test_wrong_input_is_refused(
    config: str, invalid: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--staff", "engineer", "--purpose", "service", "--days", "1", "--config", config, *invalid]
    assert main(["dc", "token", "create", *arguments]) == 2
    assert message in capsys.readouterr().err
