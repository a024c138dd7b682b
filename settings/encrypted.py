"""The names by which flashing marks the partitions that a box encrypts at its first start."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "luks-"
"""Before the partition's usual name in the GPT."""
KEY_PARTITION: Final = "rap"
"""The usual name of the partition whose LUKS header has the key of all, sealed by the TPM: that of the reports."""
STAGING_PARTITION: Final = "root-b"
"""The slot that a freshly written box does not use, where the files are kept while a partition is formatted."""
ABOUT: Final = "encryption"
"""The key in an image's manifest that says how its boxes encrypt their partitions."""
AT_FIRST_START: Final = "at the first start, with the key in the TPM"
