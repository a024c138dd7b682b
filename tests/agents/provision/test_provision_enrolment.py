"""Provisioning enables enrolment if the site file has it."""

from __future__ import annotations

from pathlib import Path

from agents.box.configuration.config import load_config
from agents.provision.box import box_file
from imaging.kickstart.site import for_box, load_site
from settings.site import parse_site
from tests.support.imaging.sites import PROVISIONED_SITE, SITE, write_site


def test_a_box_requests_certificates_if_its_site_has_enrolment(tmp_path: Path) -> None:
    """The part of the site file on a flashed disk includes the table [enrolment]."""
    flashed = for_box(load_site(write_site(tmp_path, SITE.replace("[audit]", "[enrolment]\n[audit]"))))
    for text, expected in ((flashed, True), (PROVISIONED_SITE, False)):
        site, board = parse_site(text, Path("site.toml"))
        (file := tmp_path / "box.toml").write_text(box_file(site, board))
        assert (load_config(file).enrolment is not None) is expected
