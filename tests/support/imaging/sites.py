"""Site files, and the files that they refer to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from imaging.rpm.contents import RECIPE

SSH_KEY: Final = (
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBIrGaXAFMXn7VmwIkkFxyiVlTgxG"
    "ZlkMBeVzNSh6vEHZvYJLYqPaYGUnPrSB/WWTAQ1Y4n5+9DPjaPMJ7BvOoGg= desk"
)
SITE: Final = """\
board = "rap-4"
release = "almalinux9"
timezone = "Europe/Berlin"
time_servers = ["ntp1.example.com", "ntp2.example.com"]

[uplink]
address = "192.0.2.10/24"
gateway = "192.0.2.1"
nameservers = ["192.0.2.53"]

[datacenter]
host = "ingest.example.com"

[proxy]
kind = "http"
host = "192.0.2.3"
port = 3128

[audit]
host = "audit.example.com"
authority = "audit-ca.pem"

[[instrument]]
port = 1
serial = "CHEM-0001"
model = "chemistry-analyzer"

[addresses]
"ingest.example.com" = ["203.0.113.5"]
"audit.example.com" = ["203.0.113.7"]
"ntp1.example.com" = ["203.0.113.8"]
"ntp2.example.com" = ["203.0.113.9", "2001:db8::9"]

[[administrator]]
name = "labadmin"
ssh_keys = ["SSH_KEY"]
password_hash_file = "labadmin.hash"

[disk]
device = "sda"

[boot]
password_hash_file = "grub.hash"

[luks]
passphrase_file = "/run/install/repo/luks-passphrase"

[install]
source = "network"
base = "https://mirror.example.com/BaseOS/"
appstream = "https://mirror.example.com/AppStream/"
box_repository = "https://images.example.com/rap-box/"
""".replace("SSH_KEY", SSH_KEY)
FLASHED_SITE: Final = SITE.replace('[luks]\npassphrase_file = "/run/install/repo/luks-passphrase"\n', "")
"""The site file without encryption, which a flashed box does not support."""
CRYPT_HASH: Final = "$6$saltsaltsaltsalt$" + "ab./" * 21 + "ab"
GRUB_HASH: Final = "grub.pbkdf2.sha512.10000." + "0A" * 64 + "." + "1B" * 64
AUTHORITY: Final = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUExample\n-----END CERTIFICATE-----\n"


def write_site(folder: Path, text: str = SITE) -> Path:
    """Write the site file and the files that it refers to into a folder; return the site file."""
    (folder / "audit-ca.pem").write_text(AUTHORITY)
    (folder / "labadmin.hash").write_text(CRYPT_HASH + "\n")
    (folder / "grub.hash").write_text(GRUB_HASH + "\n")
    site = folder / "site.toml"
    site.write_text(text)
    return site


def system_tree(folder: Path) -> Path:
    """Make `folder` a root file system with the units of the box's package and of libreswan; return it."""
    units = "usr/lib/systemd/system"
    shutil.copytree(RECIPE / "root" / units, folder / units, symlinks=True)
    (folder / units / "ipsec.service").write_text("[Install]\nWantedBy=multi-user.target\n")  # libreswan's
    return folder


PROVISIONED_SITE = """\
board = "rap-4"
time_servers = ["ntp.example.com", "192.0.2.123"]

[uplink]
address = "192.0.2.10/24"
gateway = "192.0.2.1"
nameservers = ["192.0.2.53"]

[datacenter]
host = "ingest.example.com"

[audit]
host = "audit.example.com"

[[instrument]]
port = 2
serial = "CHEM-0002"
model = "chemistry-analyzer"

[[instrument]]
port = 2
serial = "CHEM-0001"
model = "chemistry-analyzer"

[addresses]
"ingest.example.com" = ["203.0.113.5", "203.0.113.6"]
"audit.example.com" = ["203.0.113.7"]
"ntp.example.com" = ["203.0.113.8"]
"""
"""A site file with the resolved addresses that provisioning needs."""
