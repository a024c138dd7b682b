"""Rules about scripts apply to every section with a script, and rules about packages to every installation source."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.kickstart.lint import lint
from tests.support.imaging.kickstarts import good

SCRIPTS = ("%pre", "%pre-install", "%post", "%onerror", "%traceback")
IMAGES = (
    "liveimg --url=http://10.0.0.1/box.img",
    "ostreesetup --osname=box --remote=box --url=http://10.0.0.1/repo --ref=box/9",
    "ostreecontainer --url=registry.example/box:9",
    "bootc --source-imgref=registry:registry.example/box:9",
)


def rules(text: str, folder: Path) -> set[str]:
    """Return the rules that report a kickstart."""
    kickstart = folder / "box.ks"
    kickstart.write_text(text, "utf-8")
    return {finding.rule for finding in lint(kickstart, "", [], None, None).findings}


@pytest.mark.parametrize("section", SCRIPTS)
def test_an_interpreter_is_an_absolute_path_in_each_section(section: str, tmp_path: Path) -> None:
    reported = {}
    for interpreter in ("/usr/bin/python3", "python3"):
        script = f"{section} --interpreter={interpreter}\nprint()\n%end\n"
        reported[interpreter] = rules(good("", "almalinux9") + script, tmp_path)
    assert reported["python3"] - reported["/usr/bin/python3"] == {"interpreter-form"}


@pytest.mark.parametrize("section", SCRIPTS[:3])
def test_a_password_in_any_installation_script_is_reported(section: str, tmp_path: Path) -> None:
    script = f"{section}\necho root:secret | chpasswd\n%end\n"
    assert "password-in-script" in rules(good("", "almalinux9") + script, tmp_path)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_installed_without_packages(image: str, tmp_path: Path) -> None:
    assert "no-packages" in rules("text\n", tmp_path)
    assert "no-packages" not in rules(f"text\n{image}\n", tmp_path)


@pytest.mark.parametrize("scheme", ["http", "ftp", "https"])
@pytest.mark.parametrize(
    "source",
    [
        "url --url=%s://10.0.0.1/repo",
        "url --mirrorlist=%s://10.0.0.1/list",
        "url --metalink=%s://10.0.0.1/link",
        "repo --name=extra --baseurl=%s://10.0.0.1/repo",
        "repo --name=extra --mirrorlist=%s://10.0.0.1/list",
        "repo --name=extra --metalink=%s://10.0.0.1/link",
        "liveimg --url=%s://10.0.0.1/box.img",
    ],
)
def test_each_source_of_packages_is_protected_by_tls(source: str, scheme: str, tmp_path: Path) -> None:
    reported = rules(f"text\n{source % scheme}\n", tmp_path)
    assert ("unprotected-source" in reported) == (scheme != "https")
