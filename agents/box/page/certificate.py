"""The certificate of the local page: the one that the box uses, in a file that httpd reads.

httpd starts with the flashed certificate, and uses this file as soon as it exists: `rap-page.path` restarts httpd
gracefully after each change of the file. The file is in a file system in memory, and the box program writes it at
each start.

httpd cannot use a key in a TPM; then the file has the certificate of the configuration, whose key is in a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agents.enrolment.certificate_files import BoxCertificates
from wire.process.files import write_file
from wire.tls.tpm import is_tpm_key

FILE: Final = "identity.pem"
"""The name of the file, which is next to the page's socket."""


def publish_certificate(file: Path, used: BoxCertificates, configured: BoxCertificates) -> None:
    """Write key and certificate to `file` in one step, unless it has them already. Raises: OSError.

    `used` are the files in use, `configured` the files of the flashed identity.
    """
    source = configured if is_tpm_key(used.key.read_bytes()) else used
    content = source.key.read_bytes().rstrip() + b"\n" + source.certificate.read_bytes()
    write_file(file, content, 0o600)
