"""HL7 v2 over MLLP: status, inventory, notifications and quality control of an instrument, and commands to it.

`Hl7Receiver` answers the instrument as its host would; `Hl7Observer` only listens to both directions of a connection
between the instrument and the laboratory's host. Both extract the same findings (`content`).
"""

from wire.standards.hl7.observer import Hl7Observer
from wire.standards.hl7.receiver import Hl7Receiver

__all__ = ["Hl7Observer", "Hl7Receiver"]
