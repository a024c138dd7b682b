"""POCT1-A (CLSI POCT01): XML messages of point-of-care instruments; the box is the observation reviewer.

`Poct1Receiver` answers each message, requests new observations and events, and lets an instrument report continuously
if it can. `Poct1Observer` only listens to an instrument and another reviewer.
"""

from wire.standards.poct1a.observer import Poct1Observer
from wire.standards.poct1a.receiver import Poct1Receiver

__all__ = ["Poct1Observer", "Poct1Receiver"]
