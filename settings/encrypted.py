"""Names shared by image builder, flasher and box for the partitions that a box encrypts at its first start."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "luks-"
"""Prefix of a partition's GPT name, which marks it for encryption."""
KEY_PARTITION: Final = "rap"
"""The reports' partition, whose LUKS header contains the key of all encrypted partitions, sealed by the TPM."""
STAGING_PARTITION: Final = "root-b"
"""The root slot that is unused at the first start; it holds the files of a partition that is being formatted."""
MANIFEST_KEY: Final = "encryption"
"""The key in an image's manifest for the way its boxes encrypt their partitions."""
AT_FIRST_START: Final = "at the first start, with the key in the TPM"
