"""The staff of the demonstration can sign on through its local identity provider."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from datacenter.config import load_config
from datacenter.store.store import Store
from rap.__main__ import main
from sim.fleet.plan import plan_fleet
from sim.fleet.sign_on import local_provider, sign_on_table
from sim.fleet.staff import PEOPLE, configuration, staff_directory, write_triggers
from tests.support.datacenter.web.sign_on import begin, call_back, open_pages, signed_on


def test_staff_of_the_demonstration_can_sign_on(tmp_path: Path) -> None:
    for name in ("datacenter.crt", "datacenter.key", "datacenter.ca.crt"):
        (tmp_path / name).touch()
    write_triggers(tmp_path / "triggers")
    (tmp_path / "staff.toml").write_text(staff_directory(0))
    file = tmp_path / "datacenter.toml"
    store = Store("sqlite://")
    with local_provider() as issuer:
        table = sign_on_table(issuer, 8080, tmp_path / "oidc.secret")
        file.write_text(configuration(tmp_path / "datacenter.db", plan_fleet(2, 1, seed=1), 8080) + table)
        settings = load_config(file).access.oidc
        assert settings is not None
        web = open_pages(store, settings, lambda: 0, time.time)
        for staff, name, *_ in PEOPLE[:2]:
            begun = begin(web)
            sent = httpx.post(begun.url, data={"sub": staff}, trust_env=False)
            query = parse_qs(urlsplit(sent.headers["location"]).query)
            person = signed_on(web, call_back(web, begun, **{key: one[0] for key, one in query.items()}))
            assert person.staff == staff
            page = person.get("/alerts")
            assert page.status == 200
            if staff != "engineer":  # who has another name in the staff directory of `open_pages`
                assert name in page.text
    store.close()


def test_a_sign_on_of_the_demonstration_needs_its_port(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dc", "demo", "--sign-on", "--port", "0"]) == 2
    assert "--port 0: give a port number with --sign-on" in capsys.readouterr().err
