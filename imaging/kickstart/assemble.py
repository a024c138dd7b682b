"""Assembling a kickstart: the fragments in `kickstart/fragments/`, in the order of their names, with a site's values.

A fragment is a Jinja2 template of complete kickstart lines; a new one needs no code. The same site and release give
the same bytes on every machine: no random values, dates or names of the building machine are used.

Secrets are only hashes, read from files that the site file names, in a form that FIPS mode accepts. The passphrase of
LUKS is not read here: the installer reads it from a file.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any, Final

import jinja2
import msgspec

from imaging.kickstart.data import FRAGMENTS, DistributionRelease, releases
from imaging.kickstart.site import CRYPT_HASH, GRUB_HASH, Site, for_box, site_board
from settings.problems import SettingsError

MEDIA: Final = "/run/install/repo"
"""The mount point of the installation medium."""
_CERTIFICATE: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----", re.ASCII
)


def assemble(site: Site, file: Path, release: str = "") -> str:
    """Assemble the kickstart of a site, for `release` or, if that is "", for the release in the site file.

    `file` is the site file, for messages. Raises: SettingsError, also for the files that the site file names.
    """
    values = values_of(site, file, release)
    return "\n".join(render(fragment, values) for fragment in fragments())


def fragments() -> list[str]:
    """Return the names of the fragments, in order."""
    return sorted(path.name for path in FRAGMENTS.glob("*.ks"))


def render(fragment: str, values: dict[str, Any]) -> str:
    """Render one fragment with these values."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FRAGMENTS),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # not HTML; the site file's patterns leave nothing to escape
    )
    return environment.get_template(fragment).render(values)


def values_of(site: Site, file: Path, release: str = "") -> dict[str, Any]:
    """Return the variables of the fragments. Raises: SettingsError."""
    chosen = _release(site, file, release)
    if site.luks and not site.luks.passphrase_file:
        raise SettingsError.at(
            file,
            "luks.passphrase_file",
            "is missing: an installation needs a first key, such as /run/install/repo/luks-passphrase; for an image, "
            "assemble the kickstart from a site file without [luks], and give `rap flash write` the file with it",
        )
    board = site_board(site)
    return {
        "site": site,
        "release": chosen,
        "board": board,
        "ports": {board.instrument_ports[n]: address for n, address in site.ports(board).items()},
        "partitions": site.partitions(),
        "media": MEDIA,
        "box_repository": box_repository(site),
        "grub_hash": _secret(file, "boot.password_hash_file", site.boot.password_hash_file, GRUB_HASH),
        "password_hashes": _password_hashes(site, file),
        "audit_authority": _certificate(file, site.audit.authority),
        "box_site": for_box(site),
        "board_text": _board_text(site),
        "netmask": lambda address: IPv4Interface(address).netmask,
    }


def box_repository(site: Site) -> str:
    """Return the address of the repository with the box's own package."""
    address = site.install.box_repository
    return f"file://{MEDIA}/rap-box" if address == "media" else address


def _board_text(site: Site) -> str:
    """Return the text of a board file, which the box needs in addition to the site file; "" for a built-in board."""
    return Path(site.board).read_text("utf-8") if site.board.endswith(".toml") else ""


def _release(site: Site, file: Path, release: str) -> DistributionRelease:
    chosen = releases()[release or site.release]
    install = site.install
    own = {key: url for key in ("base", "appstream") if (url := getattr(install, key))}
    chosen = msgspec.structs.replace(chosen, **own)
    if install.source == "network" and not chosen.base:
        raise SettingsError.at(
            file, "install.base", f"{chosen.title} has no public repository; give the URL of yours"
        )
    return chosen


def _password_hashes(site: Site, file: Path) -> dict[str, str]:
    return {
        person.name: _secret(
            file, f"administrator[{number}].password_hash_file", person.password_hash_file, CRYPT_HASH
        )
        for number, person in enumerate(site.administrator)
        if person.password_hash_file is not None
    }


def _secret(file: Path, key: str, path: Path, form: re.Pattern[str]) -> str:
    """Read a hash; the content of the file is never part of a message."""
    text = _read(file, key, path).strip()
    if not form.fullmatch(text):
        right = "grub.pbkdf2.sha512.…" if form is GRUB_HASH else "$6$… (SHA-512)"
        raise SettingsError.at(file, key, f"{path} must contain one hash of the form {right}")
    return text


def _certificate(file: Path, path: Path) -> str:
    certificates = _CERTIFICATE.findall(_read(file, "audit.authority", path).replace("\r\n", "\n"))
    if not certificates:
        raise SettingsError.at(file, "audit.authority", f"{path} contains no certificate (PEM)")
    return "\n".join(certificates)


def _read(file: Path, key: str, path: Path) -> str:
    try:
        return path.read_text("ascii")
    except OSError as error:
        raise SettingsError.at(file, key, f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsError.at(file, key, f"{path} is not plain ASCII text") from None
