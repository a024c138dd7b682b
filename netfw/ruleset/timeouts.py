# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Connection tracking timeouts of the box: settings net.netfilter.nf_conntrack_*, in seconds.

A port can have `netfw.ruleset.names.CONNECTIONS_MAX` connections, so half-open and ended ones should be removed soon.
Other settings keep the kernel's defaults. An established connection that is silent for longer than its timeout
cannot continue: a packet in the middle of a connection does not begin one.
"""

from __future__ import annotations

from typing import Final

BOX_S: Final = {
    "tcp_timeout_syn_sent": 60,  # 120
    "tcp_timeout_syn_recv": 20,  # 60; the kernel repeats its SYN-ACK after 1, 3, 7 and 15 s
    "tcp_timeout_established": 86_400,  # 432,000: an instrument that was switched off is remembered for a day
    "tcp_timeout_fin_wait": 60,  # 120
    "tcp_timeout_time_wait": 30,  # 120
    "tcp_timeout_max_retrans": 120,  # 300
    "tcp_timeout_unacknowledged": 120,  # 300
    "udp_timeout_stream": 60,  # 120
    "generic_timeout": 60,  # 600
}
"""The comments give the kernel's defaults."""
