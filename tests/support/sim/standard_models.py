"""An instrument model for each standard that simulated instruments speak."""

from __future__ import annotations

MODELS = {
    "hl7": "modular-analyzer",
    "astm": "blood-cell-counter",
    "astm-serial": "electrolyte-analyzer",
    "poct1a": "blood-gas-analyzer",
    "au": "batch-chemistry-analyzer",
}
