"""Planted algorithms are found in code, configuration, certificates and keys; approved ones are not reported."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rap.__main__ import main
from tests.support.paths import ROOT
from trust.algorithms.scan import SHIPPED, scan

PLANTED = {
    "md5.py": "import hashlib\nhashlib.md5(b'x')",
    "sha1.py": "import hashlib\nhashlib.sha1(data)",
    "blake.py": "from hashlib import blake2b",
    "new.py": "import hashlib\nhashlib.new('md5', b'x')",
    "chosen.py": "import hashlib\nhashlib.new(name)",
    "hmac_md5.py": "import hmac\nhmac.new(key, data, 'md5')",
    "ed25519.py": "from cryptography.hazmat.primitives.asymmetric import ed25519",
    "x25519.py": "from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey",
    "chacha.py": "from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305",
    "hashes.py": "from cryptography.hazmat.primitives import hashes\nhashes.SHA1()",
    "curve.py": "from cryptography.hazmat.primitives.asymmetric import ec\nec.SECP256K1()",
    "nacl.py": "import nacl.secret",
    "bcrypt.py": "from passlib.hash import bcrypt",
    "tls.py": "import ssl\ncontext.minimum_version = ssl.TLSVersion.TLSv1",
    "suites.py": "context.set_ciphers('ECDHE-RSA-CHACHA20-POLY1305')",
    "sshd_config": "Ciphers aes256-gcm@openssh.com,chacha20-poly1305@openssh.com",
    "10-kex.conf": "KexAlgorithms curve25519-sha256",
    "20-mac.conf": "MACs hmac-sha2-256,umac-128-etm@openssh.com",
    "30-key.conf": "HostKeyAlgorithms ssh-ed25519",
    "ssl.conf": "SSLProtocol TLSv1.1 TLSv1.2",
    "ciphers.conf": "SSLCipherSuite AES128-GCM-SHA256:RC4-SHA",
    "openssl.cnf": "CipherString = DEFAULT:DES-CBC3-SHA\nCiphersuites = TLS_CHACHA20_POLY1305_SHA256:X",
    "tunnel.ovpn": "data-ciphers AES-128-GCM:CHACHA20-POLY1305",
    "auth.ovpn": "auth MD5",
    "vpn.conf": "ike=3des-sha1-modp1024",
    "luks.ks": "part / --encrypted --pbkdf=argon2id",
    "keys.sh": "ssh-keygen -t ed25519 -f key",
    "authorized.pub": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0lT9pmmKCoDP8nSxMQnPuPmLBbjuKNm0FRnxo5tMCc x",
    "cryptography-43.0.0.dist-info/WHEEL": "Wheel-Version: 1.0",
    "uuid3.py": "import uuid\nuuid.uuid3(uuid.NAMESPACE_DNS, name)",
    "uuid5.py": "from uuid import uuid5",
    "alias.py": "import hashlib as h\nh.md5(b'x')",
    "passed.py": "import hashlib\nfunction = hashlib.md5",
    "digestmod.py": "import hashlib, hmac\nhmac.new(key, digestmod=hashlib.md5)",
    "hmac_object.py": "import hmac\nhmac.HMAC(key, data, 'md5')",
    "hmac_chosen.py": "import hmac\nhmac.digest(key, data, digest=choose())",
    "pbkdf2.py": "import hashlib\nhashlib.pbkdf2_hmac('md5', word, salt, 1000)",
    "file_digest.py": "import hashlib\nhashlib.file_digest(file, 'sha1')",
    "getattr.py": "import hashlib\ngetattr(hashlib, name)(b'x')",
    "secret.py": "import random\nself.session_key = random.randbytes(32)",
    "token.py": "import random\nlogin(token=str(random.getrandbits(64)))",
    "nonce.py": "import random\ndef make_nonce():\n    return random.randbytes(12)",
    "rsa.py": "from cryptography.hazmat.primitives.asymmetric import rsa\nrsa.generate_private_key(3, key_size=1024)",
    "openssh.py": "from cryptography.hazmat.primitives.serialization import PrivateFormat\nPrivateFormat.OpenSSH",
    "oldest.py": "import ssl\ncontext.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED",
    "program.py": "run(['/usr/bin/openssl', 'dgst', '-md5', file])",
    "keygen.py": "run(('ssh-keygen', '-t', 'ed25519'))",
    "settings.toml": 'signature_algorithm = "ed25519"',
    "service.yaml": "ssl_ciphers: ECDHE-RSA-CHACHA20-POLY1305",
    "chrony.keys": "1 MD5 HEX:0123456789ABCDEF  # hash",
    "pg_hba.conf": "host all all 192.0.2.0/24 md5",
    "wg0.conf": "[Interface]\nAddress = 192.0.2.1/24\n[Peer]\nEndpoint = 192.0.2.2:51820",
    "shadow": "labadmin:$y$j9T$salt$hash:20000:0:60:7:::",
    "login.defs": "ENCRYPT_METHOD YESCRYPT",
    "pam.d/system-auth": "password sufficient pam_unix.so md5 shadow",
    "crypto-policies/config": "DEFAULT:SHA1",
    "policy.sh": "update-crypto-policies --set LEGACY",
    "grub.cfg": "linux /vmlinuz root=/dev/sda2 fips=0",
    "old.pem": "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,01\n\nAAAA\n"
    "-----END RSA PRIVATE KEY-----",
}
APPROVED = {
    "good.py": "import hashlib, ssl\nhashlib.sha256(b'x')\nhashlib.md5(b'x', usedforsecurity=False)\n"
    "context.set_ciphers('ECDHE-ECDSA-AES128-GCM-SHA256:!MD5:!3DES')\n# hashlib.md5\n"
    "context.minimum_version = ssl.TLSVersion.TLSv1_2\n"
    "import hmac, random, secrets, uuid\nhmac.new(key, data, hashlib.sha256)\nuuid.uuid4()\n"
    "key = secrets.token_bytes(32)\ndelay = random.uniform(1, 2)\nrun(['openssl', 'dgst', '-sha256', file])\n"
    "hashlib.pbkdf2_hmac('sha512', word, salt, 600000)",
    "good.conf": "# Ciphers chacha20\nSSLProtocol all -SSLv3 -TLSv1 -TLSv1.1\nSSLCipherSuite HIGH:!MD5:!RC4\n"
    "Ciphers aes128-gcm@openssh.com\nname = des Labors",
    "shadow": "labadmin:$6$salt$hash:20000:0:60:7:::\nroot:!*:20000::::::",
    "crypto-policies/config": "FIPS",
    "good.toml": 'matches = ["^MinProtocol = TLSv1\\\\.[23]$"]',
    "good.ovpn": "tls-groups secp256r1\ndata-ciphers AES-128-GCM",
}
OPENSSL = {
    "ed25519.pem": "genpkey -algorithm ed25519",
    "rsa1024.pem": "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024",
    "secp256k1.pem": "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1",
    "sha1.crt": "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=x -sha1",
    "md5.crt": "req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=x -md5",
    "sha1.der": "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=x -sha1 "
    "-outform DER",
    "sha1.csr": "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=x -sha1",
    "dh1536.pem": "genpkey -genparam -algorithm DH -pkeyopt group:modp_1536",
    "scrypt.pem": "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | pkcs8 -topk8 -scrypt -passout pass:x",
    "des.pem": "genpkey -algorithm RSA | pkcs8 -topk8 -v1 PBE-SHA1-3DES -passout pass:x",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")


def test_every_planted_algorithm_is_found_at_its_line(tmp_path: Path) -> None:
    write(tmp_path, PLANTED)
    findings, _ = scan([tmp_path])
    assert {Path(finding.file).relative_to(tmp_path).as_posix() for finding in findings} == PLANTED.keys()
    assert next(finding.line for finding in findings if finding.file.endswith("/md5.py")) == 2


@pytest.mark.parametrize("name", OPENSSL)
def test_every_planted_key_and_certificate_is_found(tmp_path: Path, name: str) -> None:
    output = b""
    for arguments in f"{OPENSSL[name]} -out {tmp_path / name}".split(" | "):
        result = subprocess.run(
            ["openssl", *arguments.split()], input=output, capture_output=True, check=False
        )
        assert result.returncode == 0, result.stderr
        output = result.stdout
    (finding,) = scan([tmp_path / name])[0]
    assert finding.algorithm == "key or certificate"
    good = (
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        str(tmp_path / "good.pem"),
    )
    subprocess.run(["openssl", *good], check=True)
    assert scan([tmp_path / "good.pem"])[0] == []


def test_approved_and_excluded_algorithms_and_comments_are_no_findings(tmp_path: Path) -> None:
    write(tmp_path, APPROVED)
    assert scan([tmp_path])[0] == []


@pytest.mark.slow("parses the whole source")
def test_the_project_uses_approved_algorithms_and_each_exception_is_needed() -> None:
    """The scan covers all code of a box, the data center and image builders; exceptions state their reasons."""
    names = "agents datacenter firmware-image hal imaging kickstart netfw profiles rap settings trust wire"
    findings, unused = scan([ROOT / name for name in names.split()])
    assert [str(finding) for finding in findings] == []
    assert unused == []


def test_the_command_prints_file_line_and_algorithm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {"a.py": PLANTED["md5.py"]})
    assert main(["trust", "algorithms", str(tmp_path)]) == 1
    assert f"{tmp_path}/a.py:2: md5: hashlib.md5" in capsys.readouterr().out
    assert main(["trust", "algorithms", str(tmp_path / "absent")]) == 2
    assert main(["trust", "algorithms", str(SHIPPED.parent)]) == 0
