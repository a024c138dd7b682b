"""Audit: the kernel's audit rules, and the destinations of the records."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

from trust.fact import Fact, fact, names, settings_lines
from trust.machine import ExaminedBox


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield audit rules and the destinations of logs."""
    if rules := machine.file("/etc/audit/audit.rules"):
        yield fact("audit.rules", settings_lines(rules.text), rules)
    if daemon := machine.file("/etc/audit/auditd.conf"):
        yield fact("audit.daemon", settings_lines(daemon.text), daemon)
    listed = machine.paths("/etc/rsyslog.d/*")
    files = [file for path in names(listed) if (file := machine.file(path))]
    if main := machine.file("/etc/rsyslog.conf"):
        files.append(main)
    if files:
        lines = [line for file in files for line in settings_lines(file.text)]
        remote = [
            line for line in lines if "@@" in line or " @" in line or "omfwd" in line or "omrelp" in line
        ]
        box = machine.file("/etc/rap/box.toml")
        if box is not None and "audit" in tomllib.loads(box.text):
            remote.append("the data center, with the box's own audit records ([audit] of /etc/rap/box.toml)")
            files.append(box)
        yield fact("audit.destinations", remote, listed, *files)
        tls = [line for line in lines if "StreamDriver" in line]
        yield fact("audit.transport", tls, listed, *files)
