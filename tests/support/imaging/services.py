"""Debian's httpd and OpenVPN, for an image with remote sessions; they replace the mock repository's stubs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.support.imaging.more_packages import add_debs
from tests.support.imaging.starts.guest_shell import file_script

SESSIONS: Final = ["apache2-bin", "bsdutils", "openvpn"]
"""Packages that remote sessions need; bsdutils has logger(1), through which httpd logs."""
_HTTPD: Final = """\
[Unit]
Description=The Apache HTTP Server
After=network.target remote-fs.target nss-lookup.target
[Service]
Type=exec
ExecStart=/usr/sbin/httpd -DFOREGROUND -f /etc/httpd/conf/%i.conf
ExecReload=/usr/sbin/httpd -k graceful -f /etc/httpd/conf/%i.conf
KillSignal=SIGWINCH
KillMode=mixed
PrivateTmp=true
"""
"""RHEL's httpd@.service with another type: Debian's httpd has no mod_systemd."""
_TMPFILES: Final = "d /run/httpd 710 root apache\n"
HTTPD_SCRIPT: Final = f"""\
ln -sf apache2 /usr/sbin/httpd
ln -s /usr/lib/apache2/modules /etc/httpd/modules
groupadd --system apache
useradd --system --gid apache --shell /usr/sbin/nologin apache
{file_script("/usr/lib/tmpfiles.d/httpd.conf", _TMPFILES)}\
{file_script("/etc/systemd/system/httpd@.service", _HTTPD)}"""
"""Lines of a kickstart script that make Debian's httpd available under RHEL's paths, with RHEL's user and unit."""
_PACKAGES: Final = "\n".join(SESSIONS)
KICKSTART: Final = f"""
%packages
{_PACKAGES}
%end
%post --erroronfail
set -e
{HTTPD_SCRIPT}%end
"""
"""Sections for the image's kickstart, which install these packages."""


def add_services(folder: Path) -> None:
    """Copy the packages into `folder`, without repository metadata. Raises: ProgramFailed."""
    add_debs(folder, "session-services", SESSIONS, {})
