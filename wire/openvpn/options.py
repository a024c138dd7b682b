"""Options of OpenVPN that are the same at both ends of a tunnel.

TLS 1.3 and AES-GCM with P-256 and P-384: algorithms that FIPS 140-3 approves. No file is read or written,
except the management socket.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

PING_SECONDS: Final = 10
PING_LOST_SECONDS: Final = 25
"""Time without a packet after which a tunnel ends; a dead line thus ends it within 30 s."""
SEND_BUFFER_BYTES: Final = 4096
QUEUE_PACKETS: Final = 8
"""Queue length of the TUN device. With these two limits, a key press waits for less than half a second of pictures at
128 kbit/s; with OpenVPN's defaults it waits for 8 s."""
RENEGOTIATION_SECONDS: Final = 0
"""Never: a tunnel lasts as long as its grant, and each connection needs only one signature."""

SERVER_AUTHORITY, CLIENT_AUTHORITY = "server", "client"
"""The names under which the authority of a session issues the certificate of each end.

Both are names of the same key, but each end trusts only the issuer of the other end's certificate: if it trusted the
issuer of its own certificate, OpenSSL would send that issuer's certificate too, and the person would wait longer.
"""

COMMON: Final = f"""\
dev-type tun
tls-version-min 1.3
tls-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384
tls-groups secp256r1:secp384r1
data-ciphers AES-128-GCM
allow-compression no
reneg-sec {RENEGOTIATION_SECONDS}
sndbuf {SEND_BUFFER_BYTES}
txqueuelen {QUEUE_PACKETS}
verb 3
management-hold
management-client
"""


def inline(name: str, content: str) -> str:
    """Return the content of a file as an option. Raises: ValueError if the content would end it early."""
    if f"</{name}>" in content:
        raise ValueError(f"the content of <{name}> must not contain its own end")
    return f"<{name}>\n{content.strip()}\n</{name}>\n"


def management(socket: Path) -> str:
    """Return the option that names the management socket. Raises: ValueError for a path with white space."""
    if any(letter.isspace() or letter in "\"'\\" for letter in str(socket)):
        raise ValueError(
            f"{str(socket)!r}: the path of the management socket must not contain spaces or quotes"
        )
    return f"management {socket} unix\n"
