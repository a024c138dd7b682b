"""Chooses the program for this start: the box, or a closed box if FIPS mode is required and not in force."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Protocol

from agents.box.box import Box, OnServed, ignore
from agents.box.closed import ClosedBox
from agents.box.configuration.config import BoxConfig
from agents.box.firewall import LogMessage
from agents.box.hardware import Hardware
from agents.box.sessions.sessions import BoxSessions
from agents.box.status.snapshot import BoxStatus
from agents.spool import Priority
from hal.crypto import CryptographicModule, SelfTest
from wire.dial.traffic import Traffic


class BoxProgram(Protocol):
    """The interface that `agents.box.box.Box`, which documents its members, shares with `ClosedBox`."""

    activity: str

    @property
    def tcp_ports(self) -> Mapping[int, int]:
        """The TCP ports that are served, by the number of the instrument port."""

    @property
    def traffic(self) -> Traffic:
        """Traffic on the uplink since the start."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the data center."""

    @property
    def sessions(self) -> BoxSessions | None:
        """The remote sessions; None while the box refuses them all."""

    async def run(self) -> None:
        """Run until cancelled. Raises: SpoolError IO if the disk is unusable."""

    async def status(self) -> BoxStatus | None:
        """Return the current status; None before the spool is open."""

    async def backlog(self) -> Mapping[Priority, int] | None:
        """Return records that are not acknowledged, by priority; None before the spool is open."""

    def on_sessions_changed(self, changed: Callable[[], object]) -> None:
        """Call `changed` whenever the state of the remote sessions changes."""

    def refresh_certificates(self, *, at_once: bool = False) -> None:
        """Use changed certificate files for new connections."""


def demanded_self_test(config: BoxConfig, module: CryptographicModule) -> SelfTest | None:
    """Return the result of the self-test, for `Hardware.fips`; None if the site does not require FIPS mode."""
    return module.self_test() if config.fips == "required" else None


def box_program(
    config: BoxConfig,
    hardware: Hardware,
    random: Random,
    on_served: OnServed = ignore,
    log_message: LogMessage = ignore,
) -> BoxProgram:
    """Return the program for this start.

    Raises: OSError, ssl.SSLError or CrlError for unusable certificates, which a closed box does not read.
    """
    if hardware.fips is not None and not hardware.fips.is_passed:
        return ClosedBox(config, hardware, random, log_message)
    return Box(config, hardware, random, on_served, log_message)
