# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""A policy on trial: it is reverted unless it is confirmed in time, which prevents a lockout.

A guardian process, in a separate session, holds the previous table. It restores the earlier ruleset when the time has
expired, on request, and when the process that began the trial has died for any reason, since their pipe closes then.
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
    """A policy on trial, in force until `keep`, `revert` or the timeout."""

    def __init__(self, nft: Nft, policy: Policy, seconds: float) -> None:
        """Put the policy in force. Raises: FirewallError; nothing has changed then."""
        firewall = Firewall(nft)
        before = firewall.save()
        self._answer, self._to_guardian = _start_guardian(before, seconds)
        try:
            firewall.apply(policy)
        except FirewallError:
            self.keep()
            raise
        os.write(self._to_guardian, _BEGUN)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the trial is over."""
        return self._answer

    def keep(self) -> bool:
        """Keep the policy; return False if the trial was over already."""
        with suppress(BrokenPipeError):
            os.write(self._to_guardian, _KEEP)
        return self._ended() == _KEEP

    def revert(self) -> bool:
        """Restore the previous table before returning; return False if that failed."""
        os.close(self._to_guardian)
        self._to_guardian = -1
        return self._ended() == _REVERTED

    def _ended(self) -> bytes:
        answer = os.read(self._answer, 1)
        os.close(self._answer)
        if self._to_guardian >= 0:
            os.close(self._to_guardian)
        return answer


def _start_guardian(before: list[Json] | None, seconds: float) -> tuple[int, int]:
    """Start the guardian; return descriptors to read its answer from and to write orders to."""
    orders, to_guardian = os.pipe()
    answer, answers = os.pipe()
    child = os.fork()
    if child == 0:
        # Forked twice and in its own session, so that the end of the parent or of its terminal does not end it.
        os.setsid()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            os.close(to_guardian)
            os.close(answer)
            _run_guardian(before, seconds, orders, answers)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(orders)
    os.close(answers)
    return answer, to_guardian


def _run_guardian(before: list[Json] | None, seconds: float, orders: int, answers: int) -> NoReturn:
    """Run the guardian. Its time begins when the policy is in force: before, there is nothing to revert."""
    status = 1
    try:
        for standard in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), standard)
        order = _next_order(orders, _APPLYING_SECONDS_MAX)
        if order == _BEGUN:
            order = _next_order(orders, seconds)
        if order == _KEEP or _reverted(before):
            os.write(answers, _KEEP if order == _KEEP else _REVERTED)
            status = 0
    finally:
        os._exit(status)


def _next_order(orders: int, seconds: float) -> bytes:
    """Return the next order; b"" if none arrives in time or the other end of the pipe is closed."""
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
