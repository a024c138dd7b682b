"""Defaults and limits of the configuration that other parts of the box use too.

They are in a separate module, so that the program that writes a configuration does not import the whole box.
"""

from __future__ import annotations

from typing import Final

INSTRUMENTS_MAX: Final = 16
"""Instruments per box; their high-water marks must fit into the spool's snapshot (`agents.box.state`)."""
LINGER_SECONDS: Final = 30.0
"""Longest time that routine records wait for a fuller batch."""
HEARTBEAT_SECONDS: Final = 300.0
"""Time without a batch after which the box sends a heartbeat."""
