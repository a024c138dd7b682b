"""The allow-list of words in reports.

Reports consist of these words and of integers only: no field can carry a name, a sample number or any other text
about a patient. The box refuses any other word, so that adding one is a reviewed change to this file.
"""

from __future__ import annotations

from typing import Literal

# The last syllable is the unit: mc 0.001 degree Celsius, pct percent, h hours, n a count, pa pascal,
# ua microampere, ns nanosiemens a centimetre.
Channel = Literal[
    "ambient-temp-mc",
    "bath-temp-mc",
    "cycles-n",
    "flow-aperture-pa",
    "hemoglobin-lamp-h",
    "incubator-temp-mc",
    "lamp-h",
    "lamp-intensity-pct",
    "laser-current-ua",
    "luminometer-dark-n",
    "queue-n",
    "reaction-temp-mc",
    "reagent-temp-mc",
    "samples-n",
    "sheath-pressure-pa",
    "substrate-temp-mc",
    "tests-n",
    "vacuum-pa",
    "wash-pressure-pa",
    "waste-pct",
    "water-conductivity-ns",
]

Assay = Literal[
    "alb",
    "alt",
    "ast",
    "chol",
    "crea",
    "crp",
    "diluent",
    "ferr",
    "ft4",
    "glu",
    "hgb",
    "k",
    "lyse",
    "na",
    "plt",
    "psa",
    "rbc",
    "retic",
    "sheath",
    "stain",
    "substrate",
    "tni",
    "trig",
    "tsh",
    "urea",
    "vitb12",
    "vitd",
    "wash",
    "wbc",
]

Component = Literal[
    "barcode-reader",
    "bath",
    "calibration",
    "cuvettes",
    "flow-cell",
    "incubator",
    "lamp",
    "laser",
    "luminometer",
    "pipettor",
    "quality-control",
    "reagent",
    "software",
    "track",
    "vacuum",
    "washer",
    "waste",
    "water",
]

State = Literal["idle", "running", "calibrating", "maintenance", "stopped"]
Severity = Literal["info", "warning", "error", "critical"]
Verb = Literal["help-file", "assay-configuration", "test-menu", "data-upload", "send-inventory"]
Outcome = Literal["done", "refused", "failed", "unknown"]
