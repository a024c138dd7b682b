"""Requirements of the kernel world that the machine lacks are reported with their remedy."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from netfw.kernel.nft import Nft
from netfw.service.requests import FirewallProcess
from sim.lab.labfile import parse_lab
from sim.pytest_plugin import SMALL_LAB
from sim.worlds.kernel import missing
from sim.worlds.kernel.namespaces.missing import MachineLacksError
from sim.worlds.kernel.run import check

NOBODY = 65534


def test_this_machine_lacks_nothing() -> None:
    assert missing() == []


def test_missing_privileges_are_reported_with_their_remedy() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(NOBODY)
            os.write(writer, json.dumps(missing()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        lacks = json.load(answer)
    os.waitpid(pid, 0)
    assert lacks == [
        "not root: needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN; run it with sudo, or in a privileged container"
    ]


def test_a_missing_program_is_reported_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    [message] = missing({"no-squid": "squid"})[-1:]
    assert (
        message == "the program no-squid is missing; install it with `make setup-kernel` or the package squid"
    )


def test_a_missing_firewall_library_is_reported_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutLibrary(FirewallProcess):
        def ask(self, request: object) -> NoReturn:
            Nft("libno-such-nftables.so.1")
            raise AssertionError

    monkeypatch.setattr(
        sys.modules["sim.worlds.kernel.namespaces.missing"], "FirewallProcess", WithoutLibrary
    )
    [message] = missing()
    assert "install libnftables1" in message


def test_a_squid_without_openssl_is_reported_before_a_lab_with_an_inspecting_proxy_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    squid = tmp_path / "squid"
    squid.write_text("#!/bin/sh\necho \"configure options: '--with-gnutls'\"\n")
    squid.chmod(0o755)
    site = SMALL_LAB.replace("[[instrument]]", 'proxy = { kind = "http" }\n[[instrument]]', 1)
    event = '[[event]]\nat = "1min"\nfault = "{}"\ntarget = "proxy"\n'
    refuses, inspects = (
        parse_lab(site + event.format(fault), Path("small.toml"))
        for fault in ("proxy-refuses", "proxy-inspects")
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    check(refuses)
    with pytest.raises(MachineLacksError, match="install squid-openssl"):
        check(inspects)
