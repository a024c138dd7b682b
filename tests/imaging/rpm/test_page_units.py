"""The units of the local page's certificate, run by systemd in separate namespaces: httpd is reloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from imaging.rpm.contents import RECIPE

SYSTEMD = Path("/lib/systemd/systemd")
UNITS = RECIPE / "root/usr/lib/systemd/system"
SECONDS_MAX = 120
"""Only prevents hanging; generous enough for a busy machine."""
HTTPD = """\
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/sleep infinity
ExecReload=/bin/sh -c 'cat /run/rap-page/identity.pem >> /run/test/reloads'
"""
WATCHER = """\
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh -e /run/test/watch
"""
BOOT = """\
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/lock /run/rap-page /run/test
mount --bind {folder} /run/test
umount -l /sys/fs/cgroup || true
mount -t cgroup2 none /sys/fs/cgroup
cp /run/test/units/* /run/systemd/system
export container=lxc
exec {systemd} --unit=watcher.service --log-target=console --show-status=0
"""
WATCH = """\
write() { echo "$1" > /run/rap-page/identity.part; mv /run/rap-page/identity.part /run/rap-page/identity.pem; }
ended() { systemctl show --property=ExecMainExitTimestampMonotonic --value rap-page.service; }
systemctl start rap-page.path
write first
while [ "$(ended)" = 0 ]; do sleep 0.1; done
systemctl start httpd@rap.service
for name in second third; do
    write $name
    until grep -qs $name /run/test/reloads; do sleep 0.1; done
done
systemctl show --property=Result --value rap-page.service > /run/test/result
kill -s RTMIN+14 1
"""


@pytest.mark.kernel
@pytest.mark.slow("systemd starts in separate namespaces")
def test_httpd_is_reloaded_when_the_certificate_is_replaced(tmp_path: Path) -> None:
    """A certificate that is written before httpd runs causes no reload: httpd reads it at its start."""
    if os.geteuid() != 0 or not SYSTEMD.exists() or not shutil.which("unshare"):
        pytest.skip("needs root, systemd and unshare")
    (units := tmp_path / "units").mkdir()
    for name in ("rap-page.path", "rap-page.service"):
        text = (UNITS / name).read_text()
        (units / name).write_text(text.replace("[Unit]\n", "[Unit]\nDefaultDependencies=no\n"))
    (units / "httpd@.service").write_text(HTTPD)
    (units / "watcher.service").write_text(WATCHER)
    (tmp_path / "watch").write_text(WATCH)
    boot = BOOT.format(folder=tmp_path, systemd=SYSTEMD)
    command = ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--mount-proc", "--kill-child"]
    done = subprocess.run(
        [*command, "bash", "-c", boot], capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert (tmp_path / "result").exists(), done.stdout + done.stderr
    assert (tmp_path / "result").read_text() == "success\n"
    assert (tmp_path / "reloads").read_text().splitlines() == ["second", "third"]
