"""Packages for an image in FIPS mode: OpenSSL's FIPS provider of `make setup-fips`, and real services of Debian.

The mock repository has stubs of sshd, httpd, OpenVPN and auditd. Debian's packages are added beside the stubs or
replace them; RHEL's packages are patched differently, but use OpenSSL's configuration in the same way. Users, folders
and units that only RHEL's packages contain are added, too: the box starts the units by RHEL's names.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from imaging.mock_repo import rpms
from tests.support.crypto import fips
from tests.support.imaging.more_packages import add_debs
from tests.support.imaging.services import HTTPD_SCRIPT
from tests.support.imaging.starts.guest_shell import file_script

_DEBS: Final = ["apache2-bin", "bsdutils", "openvpn", "openssh-server", "auditd", "rpm", "tpm2-openssl"]
_NAMES: Final = {"auditd": ["audit"], "openssh-server": ["debian-openssh-server"]}
"""Names of Debian's packages here: auditd replaces the stub `audit`; sshd is installed beside the stub, whose unit
and settings the kickstart uses."""
_PROVIDER: Final = "openssl-fips-provider"
_STUBS: Final = {"update-rc.d": rpms.Stub({"usr/sbin/update-rc.d": "#!/bin/sh\n"})}
"""The program that `systemctl enable` calls for a Debian service."""
_SSHD: Final = """\
[Unit]
Description=OpenSSH server daemon
After=network.target
[Service]
Type=notify
EnvironmentFile=-/etc/sysconfig/sshd
ExecStart=/usr/sbin/sshd -D $OPTIONS
ExecReload=/bin/kill -HUP $MAINPID
KillMode=process
Restart=on-failure
RestartSec=42s
RuntimeDirectory=sshd
[Install]
WantedBy=multi-user.target
"""
"""RHEL's sshd.service with the runtime folder of Debian's sshd; the box itself generates the host keys."""
_FIREWALLD: Final = """\
[Unit]
Description=firewalld - dynamic firewall daemon
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft add table inet firewalld
[Install]
WantedBy=multi-user.target
"""
"""A unit that creates firewalld's table, which the mock package's unit does not."""
_UNITS: Final = "/etc/systemd/system"
KICKSTART: Final = f"""
%packages
{_PROVIDER}
update-rc.d
apache2-bin
bsdutils
openvpn
debian-openssh-server
rpm
tpm2-openssl
%end
%post --erroronfail
set -e
cat {fips.CONFIGURATION} > /etc/ssl/openssl.cnf
{HTTPD_SCRIPT}groupadd --system sshd
useradd --system --gid sshd --shell /usr/sbin/nologin sshd
{file_script(f"{_UNITS}/sshd.service", _SSHD)}\
{file_script(f"{_UNITS}/firewalld.service", _FIREWALLD)}%end
"""
"""Sections of the image's kickstart. Debian's OpenSSL ignores the kernel's FIPS flag, unlike RHEL's, so its
configuration names the provider."""


def add_packages(folder: Path) -> None:
    """Copy the packages into `folder`, without repository metadata."""
    provider = (fips.PROVIDER / "fipsmodule.cnf").read_text(), _provider
    add_debs(folder, "services", _DEBS, _NAMES, provider)
    rpms.make_stubs(folder, _STUBS)


def _provider(work: Path) -> None:
    """Build the provider's package in `work`/repo."""
    root = work / "provider"
    inside = root / fips.PROVIDER.relative_to("/")
    inside.parent.mkdir(parents=True)
    shutil.copytree(fips.PROVIDER, inside)
    listing = work / "provider.files"
    listing.write_text(f'"{fips.PROVIDER}"\n')
    spec = work / "provider.spec"
    spec.write_text(rpms.HEAD + rpms.subpackage(_PROVIDER, "3.0-1", ["Requires(pre): filesystem"], listing))
    rpms.build(spec, root, work / "repo")
