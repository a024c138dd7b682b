# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""A policy on trial: it is taken back unless somebody says in time that they can still get in.

A guardian process, in a session of its own, holds what was in force before. It puts that back when the time is over,
when it is told so, and when the process that began the trial is gone, whatever it died of: their pipe closes.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import Final, NoReturn

from netfw.errors import FirewallError
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.policy.policy import Policy
from netfw.ruleset.nft_json import Json

SECONDS_MAX: Final = 3600
_APPLYING_SECONDS_MAX: Final = 60
_BEGUN: Final = b"b"
_KEEP: Final = b"k"
_REVERTED: Final = b"r"
_ATTEMPTS_MAX: Final = 10
_PAUSE_SECONDS: Final = 0.5


class Trial:
    """A policy in force on trial. One of `keep` and `revert` ends it; so does its time."""

    def __init__(self, nft: Nft, policy: Policy, seconds: float) -> None:
        """Put the policy in force. Raises: FirewallError; nothing is changed then."""
        firewall = Firewall(nft)
        before = firewall.snapshot()
        self._answer, self._to_guardian = _guarded(before, seconds)
        try:
            firewall.apply(policy)
        except FirewallError:
            self.keep()
            raise
        os.write(self._to_guardian, _BEGUN)

    def fileno(self) -> int:
        """Becomes readable when the trial is over."""
        return self._answer

    def keep(self) -> bool:
        """The policy stays; False if it was too late."""
        with suppress(BrokenPipeError):
            os.write(self._to_guardian, _KEEP)
        return self._ended() == _KEEP

    def revert(self) -> bool:
        """What was in force before is again, on return. False if even that failed."""
        os.close(self._to_guardian)
        self._to_guardian = -1
        return self._ended() == _REVERTED

    def _ended(self) -> bytes:
        answer = os.read(self._answer, 1)
        os.close(self._answer)
        if self._to_guardian >= 0:
            os.close(self._to_guardian)
        return answer


def _guarded(before: list[Json] | None, seconds: float) -> tuple[int, int]:
    """Start the guardian; where its answer comes from, and where to write to it."""
    orders, to_guardian = os.pipe()
    answer, to_us = os.pipe()
    child = os.fork()
    if child == 0:
        # Forked twice, and with a session of its own: nobody's child, no terminal's, and so nobody's to take along.
        os.setsid()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            os.close(to_guardian)
            os.close(answer)
            _guard(before, seconds, orders, to_us)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(orders)
    os.close(to_us)
    return answer, to_guardian


def _guard(before: list[Json] | None, seconds: float, orders: int, to_us: int) -> NoReturn:
    """The guardian's life. Its time begins when the policy is in force: before, there is nothing to take back."""
    status = 1
    try:
        for standard in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), standard)
        told = _heard(orders, _APPLYING_SECONDS_MAX)
        if told == _BEGUN:
            told = _heard(orders, seconds)
        if told == _KEEP or _reverted(before):
            os.write(to_us, _KEEP if told == _KEEP else _REVERTED)
            status = 0
    finally:
        os._exit(status)


def _heard(orders: int, seconds: float) -> bytes:
    """The next order; nothing if none comes in time, or nobody is left to give one."""
    return os.read(orders, 1) if select.select([orders], [], [], seconds)[0] else b""


def _reverted(before: list[Json] | None) -> bool:
    for _ in range(_ATTEMPTS_MAX):
        try:
            Firewall(Nft()).restore(before)
        except FirewallError:
            time.sleep(_PAUSE_SECONDS)
        else:
            return True
    return False
