"""Generates the keys for a box's certificates: in its TPM, or in files, as the site permits."""

from __future__ import annotations

from collections.abc import Callable

from settings.site import Enrolment
from wire.pki.hierarchy import PrivateKey, make_key
from wire.tls.tpm import TpmError, TpmKey


def key_maker(enrolment: Enrolment | None, log_message: Callable[[str], object]) -> Callable[[], PrivateKey]:
    """Return the function that generates a key; it raises TpmError if the site demands a TPM that cannot be used."""
    if enrolment is None or enrolment.keys == "file":
        return make_key
    if enrolment.keys == "tpm":
        return TpmKey.make

    def make_in_tpm_or_file() -> PrivateKey:
        try:
            return TpmKey.make()
        except TpmError as error:
            log_message(f"enrolment: the new key is kept in a file, as the site permits: {error}")
            return make_key()

    return make_in_tpm_or_file
