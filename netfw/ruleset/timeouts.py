# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""How long the box's kernel remembers connections: net.netfilter.nf_conntrack_* of these names, in seconds.

A port has `netfw.ruleset.names.CONNECTIONS_MAX` places; what is half-open or over should free its place soon.
What is not
named here has the kernel's own value. An established connection that is silent for longer than its time cannot go on:
nothing in the middle of a connection begins one.
"""

from __future__ import annotations

from typing import Final

BOX_S: Final = {
    "tcp_timeout_syn_sent": 60,  # 120
    "tcp_timeout_syn_recv": 20,  # 60; the kernel repeats its answer after 1, 3, 7 and 15 s
    "tcp_timeout_established": 86_400,  # 432,000: an instrument that was switched off keeps its place for a day
    "tcp_timeout_fin_wait": 60,  # 120
    "tcp_timeout_time_wait": 30,  # 120
    "tcp_timeout_max_retrans": 120,  # 300
    "tcp_timeout_unacknowledged": 120,  # 300
    "udp_timeout_stream": 60,  # 120
    "generic_timeout": 60,  # 600
}
"""With the kernel's own values behind them."""
