"""FIPS mode, audit lines and papers of a started box: `python -m bench.image.trust [--json]`. Needs root.

The box's image, with OpenSSL's FIPS provider as the default and Debian's sshd, httpd, OpenVPN and auditd, starts once
in QEMU with fips=1 and `fips = "required"`. It forwards a report, which it would not outside of FIPS mode. Then

* each service is examined: its algorithms, its refusal of algorithms that are not approved, and its dependence on the
  provider;
* the papers of this box are made from `rap trust evidence --running`, and `rap trust verify --running` on the box
  must agree;
* deviations are planted, those of tests/fixtures/trust/deviations.toml and some of the kernel and of processes, as
  many at once as are about different facts. Exactly these must be found.

The papers of the image itself (`rap trust papers --tree`) are compared with the box, too. Then the image starts once
more, with a TPM (swtpm) and `keys = "tpm"`: the box must enrol with a key that it has generated there.

Needs what `make setup-image`, `make setup-sessions` and `make setup-fips` install. It takes about ten minutes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select

from bench.figures import Figure, figure, run
from bench.image.encryption import tpm as software_tpm
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_audit
from settings.toml import load
from settings.types import Table
from tests.support.crypto import fips
from tests.support.eventually import eventually
from tests.support.imaging import fips_packages
from tests.support.imaging.starts import guest_shell
from tests.support.imaging.starts.emulated import Machine
from tests.support.imaging.starts.first_report import (
    CABLES,
    build_image,
    datacenter,
    give_identity,
    plug_in,
    reporting,
    submit,
)
from tests.support.imaging.starts.guest_shell import GuestShell
from tests.support.namespaces import own_network
from tests.support.paths import FIXTURES, ROOT
from wire.pki.hierarchy import Authority, make_key

T = TypeVar("T")
START_SECONDS_MAX: Final = 900.0
"""A limit that prevents hanging on a busy machine."""
OTHER: Final = "OPENSSL_CONF=/dev/null"
"""A client outside of FIPS mode, which offers all algorithms."""
TABLES: Final = """
[enrolment]
keys = "file"

[sessions]
endpoint = "192.0.2.1:443"
keys = ["{key}"]
ways = ["code"]
"""
"""The box requests its certificate; httpd and OpenVPN are on a box for remote sessions."""
DATACENTER: Final = """
[enrolment]
certificate = "vendor-ca.crt"
key = "vendor-ca.key"
"""
WITHOUT: Final = "OPENSSL_CONF=/run/no-provider.cnf"
"""A configuration in force whose provider is missing."""
CHECKS: Final = {
    "kernel in FIPS mode": "grep -x 1 /proc/sys/crypto/fips_enabled",
    "OpenSSL has loaded the FIPS provider": "openssl list -providers; openssl list -providers | grep 'FIPS Provider'",
    "OpenSSL has not loaded the default provider": "! openssl list -providers | grep 'Default Provider'",
    "OpenSSL computes SHA-256": "openssl dgst -sha256 /etc/hostname",
    "OpenSSL refuses MD5": "! openssl dgst -md5 /etc/hostname",
    "OpenSSL refuses ChaCha20": "! openssl enc -chacha20 -k x -in /etc/hostname -out /dev/null",
    "self-test of the box's Python": "rap trust fips",
    "self-test of the box program": """\
rap box status --config /etc/rap/box.toml --json > /run/status.json
python3.11 -c 'import json; found = json.load(open("/run/status.json")); print(found["fips"], found["traffic"]);
assert found["fips"]["failed"] == {} and found["connected"]'""",
    "sshd's settings have approved algorithms alone": """\
/usr/sbin/sshd -T > /run/sshd.settings
grep -Ei '^(ciphers|macs|kexalgorithms|hostkeyalgorithms)' /run/sshd.settings
! grep -Ei '^(ciphers|macs|kex|hostkey)' /run/sshd.settings | grep -Ei 'chacha|25519|umac|md5|sha1'""",
    "sshd runs as a unit, and completes an approved key exchange": """\
systemctl is-active sshd.service
try_ssh | grep 'Permission denied'""",
    "sshd refuses ChaCha20": "try_ssh -o Ciphers=chacha20-poly1305@openssh.com | grep 'no matching cipher'",
    "sshd refuses X25519": "try_ssh -o KexAlgorithms=curve25519-sha256 | grep 'no matching key exchange'",
    "sshd refuses UMAC": "try_ssh -o Ciphers=aes128-ctr -o MACs=umac-64@openssh.com | grep 'no matching MAC'",
    "sshd depends on the provider": f"""\
{{ {WITHOUT} timeout 60 /usr/sbin/sshd -D -e -p 2223 2>&1 || :; }} | grep 'PRNG is not seeded'""",
    "OpenVPN offers AES-GCM": "openvpn --show-ciphers | grep AES-256-GCM",
    "OpenVPN offers no ChaCha20": "! { openvpn --show-ciphers; openvpn --show-tls; } | grep -i chacha",
    "OpenVPN depends on the provider": f"! {WITHOUT} openvpn --show-ciphers | grep AES-256-GCM",
    "httpd runs as a unit, and completes an approved handshake": """\
systemctl is-active httpd@rap.service
try_tls -cipher ECDHE+AESGCM | grep -E 'Cipher is ECDHE-.*-AES128-GCM'""",
    "httpd uses the certificate that the box has requested": """\
used=$(serial < /run/rap-page/identity.pem)
echo $used
test "$used" != "$(serial < /var/lib/rap/identity/box.crt)"
test "$used" = "$(try_tls | serial)\"""",
    "httpd refuses ChaCha20": "try_tls -cipher ECDHE+CHACHA20 | grep 'alert handshake failure'",
    "httpd refuses TLS 1.1": f"""\
{OTHER} openssl s_client -connect $page -tls1_1 -cipher ALL:@SECLEVEL=0 < /dev/null 2>&1 |
    grep 'alert protocol version'""",
    "httpd depends on the provider": f"""\
sed 's/:8443/:8444/' /etc/httpd/conf/rap-listen.conf > /run/other-listen.conf
sed 's#conf/rap-listen.conf#/run/other-listen.conf#; s#^ErrorLog .*#ErrorLog /run/other-error.log#
    s#^PidFile .*#PidFile /run/httpd/other.pid#; s#/rap-sessions#/other-sessions#' \\
    /etc/httpd/conf/rap.conf > /run/other.conf
! {WITHOUT} timeout 60 /usr/sbin/httpd -DFOREGROUND -f /run/other.conf
grep 'SSL Library Error' /run/other-error.log""",
}
"""Requirements for each service, as scripts that must succeed."""
TPM_CHECKS: Final = {
    "the TPM belongs to the box program": "stat -c '%G %a' /dev/tpmrm0 | tee /dev/stderr | grep -x 'rap 660'",
    "the key in use is in the TPM": "grep -a 'BEGIN TSS2 PRIVATE KEY' /var/lib/rap/spool/identity-used.record",
    "self-test of the box program": CHECKS["self-test of the box program"],
    "httpd uses the flashed certificate, whose key is in a file": """\
test "$(try_tls | serial)" = "$(serial < /var/lib/rap/identity/box.crt)\"""",
}
"""Requirements for a box whose key is in its TPM."""
PREPARE: Final = f"""\
exec 2>&1
set -e
sed 's/^module = .*/module = \\/absent.so/; /config_diagnostics/d' /etc/ssl/openssl.cnf > /run/no-provider.cnf
cat > /run/functions.sh <<'END'
try_ssh() {{
    {OTHER} ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \\
        "$@" labadmin@127.0.0.1 2>&1 | tee /dev/stderr
}}
serial() {{ openssl x509 -noout -serial; }}
page=10.77.1.1:8443
try_tls() {{ {OTHER} openssl s_client -connect $page -tls1_2 "$@" < /dev/null 2>&1; }}
END
"""
SERVICES: Final = """\
systemctl --no-pager --full status sshd.service httpd@rap.service rap-tunnel.service
journalctl --no-pager -u sshd.service -u httpd@rap.service -u rap-tunnel.service
ss -tlnp
"""
"""Prints the state of the services, for diagnosis of a failed run."""


class Shell(Protocol):
    """A shell of root on the started box."""

    def run(self, script: str, stdin: bytes = b"") -> guest_shell.ScriptResult:
        """Run a script of sh(1) with standard input `stdin`."""

    def write(self, path: str, content: bytes) -> None:
        """Write a file on the box."""


class FilePlant(Table, frozen=True):
    """A change of a file: `old` becomes `new`, or `new` is added at its end."""

    name: str
    fact: str
    file: str
    new: str
    old: str = ""


class FilePlants(Table, frozen=True):
    """The content of deviations.toml."""

    plant: list[FilePlant]


class Plant(NamedTuple):
    """A deviation: a script that makes it, and one that undoes it."""

    name: str
    fact: str
    make: str
    undo: str


OF_MACHINE: Final = (
    Plant(
        "a TCP port that listens", "sockets.listening",
        "setsid python3.11 -c 'import socket, time; s = socket.create_server((\"0.0.0.0\", 4444)); time.sleep(9999)'"
        " > /dev/null 2>&1 & echo $! > /run/listener; sleep 3", "kill $(cat /run/listener)",
    ),
    Plant("a table of the packet filter", "firewall.other-tables",
          "nft add table ip mallory", "nft delete table ip mallory"),
    Plant(
        "a rule that accepts, without the firewall service", "firewall.rules",
        "systemctl stop rap-firewall.service; nft insert rule inet rap input accept",
        "systemctl start rap-firewall.service",
    ),
    Plant("a setting of the kernel", "system.kernel-settings",
          "echo 0 > /proc/sys/net/ipv4/tcp_rfc1337", "echo 1 > /proc/sys/net/ipv4/tcp_rfc1337"),
    Plant("a service that starts by itself", "services.enabled",
          "ln -s /usr/lib/systemd/system/telnet.service /etc/systemd/system/multi-user.target.wants/telnet.service",
          "rm /etc/systemd/system/multi-user.target.wants/telnet.service"),
    Plant("a masked service that is not", "services.masked", "rm /etc/systemd/system/debug-shell.service",
          "ln -s /dev/null /etc/systemd/system/debug-shell.service"),
    Plant("OpenSSL with the default provider", "crypto.openssl-providers",
          "cp /etc/ssl/openssl.cnf /run/kept.cnf; sed -i 's/^base = base_sect/&\\ndefault = default_sect/; "
          "s/^\\[base_sect\\]/[default_sect]\\nactivate = 1\\n&/' /etc/ssl/openssl.cnf",
          "cat /run/kept.cnf > /etc/ssl/openssl.cnf"),
)  # fmt: skip
UNSEEN: Final = {"system.kernel-options", "crypto.box-tls", "system.kernel-settings", "accounts.ssh-keys"}
"""Facts whose files are in the read-only slot, or that the running kernel shows: `OF_MACHINE` has one of these."""
ALSO: Final = {
    "crypto.openssl-providers": {"crypto.self-test"},
    "policy.outbound": {"firewall.rules"},
    "policy.inbound": {"firewall.rules", "sockets.listening"},
}
"""Facts that a deviation changes, too."""


def file_plants() -> list[Plant]:
    """Return the changes of files as scripts."""
    authority = Authority.make("another").certificate.public_bytes(Encoding.PEM).decode()
    plants = load(FIXTURES / "trust/deviations.toml", FilePlants).plant
    return [
        _of_file(number, change, authority)
        for number, change in enumerate(plants)
        if change.fact not in UNSEEN
    ]


def _of_file(number: int, plant: FilePlant, authority: str) -> Plant:
    change = json.dumps([f"/{plant.file}", plant.old, plant.new.replace("AUTHORITY", authority)])
    make = f"""\
cat > /run/change.json <<'END_OF_CHANGE'
{change}
END_OF_CHANGE
python3.11 - /run/kept-{number} <<'END'
import json, os, shutil, sys
path, old, new = json.load(open("/run/change.json"))
os.makedirs(os.path.dirname(path), exist_ok=True)
if os.path.exists(path):
    shutil.copy2(path, sys.argv[1])
text = open(path).read() if os.path.exists(path) else ""
assert old in text, "the file does not contain the text " + old
text = text.replace(old, new, 1) if old else text + new
open(path, "w").write(text)
END
"""
    undo = f"if [ -e /run/kept-{number} ]; then cp -p /run/kept-{number} /{plant.file}; else rm -f /{plant.file}; fi"
    return Plant(plant.name, plant.fact, make, undo)


def groups(plants: Sequence[Plant]) -> Iterator[list[Plant]]:
    """Yield groups of deviations of different facts, few and large."""
    waiting = list(plants)
    while waiting:
        group: dict[str, Plant] = {}
        for deviation in waiting:
            group.setdefault(deviation.fact, deviation)
        yield list(group.values())
        waiting = [deviation for deviation in waiting if deviation not in group.values()]


class Examination(NamedTuple):
    """The results on the started box."""

    passed: int
    facts: int
    differ: int
    differ_from_tree: list[str]
    planted: int
    missed: list[str]
    others: list[str]
    lines: int
    events: list[str]


def examine(shell: Shell, folder: Path, image: Path, checks: Mapping[str, str] = CHECKS) -> Examination:
    """Examine the started box; `image` is the image from which it was started, or its tree."""
    passed = check(shell, checks)
    evidence = collect(shell, folder / "evidence.json")
    site = folder / "site.toml"
    rap(
        "trust",
        "papers",
        "--site",
        site,
        "--evidence",
        evidence,
        "--country",
        "DE",
        "--no-scan",
        "-o",
        folder / "papers",
    )
    shell.write("/run/papers.json", (folder / "papers/papers.json").read_bytes())
    shown = shell.run("rap trust verify /run/papers.json --running")
    _log(shown.output)
    agreed = verify(shell)
    rap("trust", "papers", "--site", site, "--tree", image, "--no-scan", "-o", folder / "papers-tree")
    compared = rap("trust", "verify", folder / "papers-tree/papers.json", "--evidence", evidence)
    _log(compared)
    of_tree = [line.split()[1] for line in compared.splitlines() if line.startswith("DIFFERS")]
    planted, missed, others = plant(shell)
    texts = audit_texts(folder)
    lines = [text for kind, text in texts if kind == "line"]
    _log("\n".join(f"audit {kind}: {text[:150]}" for kind, text in texts[:40]))
    events = sorted({text.split()[0] for kind, text in texts if kind != "line"})
    differ = len(agreed["deviations"])
    return Examination(
        passed, agreed["compared"], differ, of_tree, planted, missed, others, len(lines), events
    )


def check(shell: Shell, checks: Mapping[str, str]) -> int:
    """Make checks; return the number of those that pass."""
    prepared = shell.run(PREPARE)
    assert prepared.status == 0, prepared.output
    _log(shell.run(SERVICES).output)
    passed = 0
    for name, script in checks.items():
        result = shell.run(f"set -e\n. /run/functions.sh\n{script}")
        _log(f"{'passes' if result.status == 0 else 'FAILS '} {name}\n{_indented(result.output)}")
        passed += result.status == 0
    return passed


def plant(shell: Shell) -> tuple[int, list[str], list[str]]:
    """Plant deviations; return their number, those not found, and facts that differed without a deviation."""
    planted, missed, others = 0, list[str](), list[str]()
    for group in groups([*OF_MACHINE, *file_plants()]):
        planted_now = []
        for deviation in group:
            result = shell.run(f"set -e\n{deviation.make}")
            if result.status:
                _log(f"cannot be planted: {deviation.name}: {result.output}")
            else:
                planted_now.append(deviation)
        differing = {deviation["fact"] for deviation in verify(shell)["deviations"]}
        planted += len(planted_now)
        missed += [deviation.name for deviation in planted_now if deviation.fact not in differing]
        expected = {
            fact for deviation in planted_now for fact in (deviation.fact, *ALSO.get(deviation.fact, ()))
        }
        others += sorted(differing - expected)
        for deviation in reversed(group):
            shell.run(deviation.undo)
    remaining = [deviation["fact"] for deviation in verify(shell)["deviations"]]
    _log(f"planted {planted}; missed {missed}; others {others}; left after undoing {remaining}")
    return planted, missed, others


def verify(shell: Shell) -> Any:
    """Return the output of `rap trust verify` on the box."""
    result = shell.run("rap trust verify /run/papers.json --running --json")
    return json.loads(result.output)


def collect(shell: Shell, file: Path) -> Path:
    """Collect the evidence on the box, as its administrator does."""
    result = shell.run("rap trust evidence --running -o /run/evidence.json")
    assert result.status == 0, result.output
    file.write_text(shell.run("cat /run/evidence.json").output)
    return file


def audit_texts(folder: Path) -> list[tuple[str, str]]:
    """Return kind and text of the box's audit records in the data center."""
    store = Store(f"sqlite:///{folder}/reports.db")
    try:
        query = select(box_audit.c.kind, box_audit.c.text).order_by(box_audit.c.number)
        return [(str(kind), str(text)) for kind, text in store.read(query)]
    finally:
        store.close()


def rap(*arguments: object) -> str:
    """Run the command on this machine; return its output."""
    command = [sys.executable, "-m", "rap", *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stderr
    return result.stdout


async def watch(folder: Path, examine_box: Callable[[], T]) -> T:
    """Wait until the box has forwarded a report and uses the certificate that it has requested; then examine it."""
    (folder / "reports.db").unlink(missing_ok=True)
    async with datacenter(folder), reporting(folder) as agent:
        submit(agent)

        def is_in_use() -> bool:
            events = {text.split()[0] for kind, text in audit_texts(folder) if kind != "line"}
            return {"fips-in-force", "certificate-renewed"} <= events and not agent.waiting

        async with asyncio.timeout(START_SECONDS_MAX):
            await eventually(is_in_use, None, every_s=2)
        _log("the report is stored, and the box uses the certificate that it has requested")
        return await asyncio.to_thread(examine_box)


def make_image(folder: Path) -> Path:
    """Build the image in `folder`, with the files of its data center; return it."""
    (packages := folder / "rpm").mkdir(exist_ok=True)
    fips_packages.add_packages(packages)
    image = build_image(
        folder,
        "systemd.journald.forward_to_console=1",
        fips_packages.KICKSTART + guest_shell.KICKSTART,
        settings='fips = "required"\n',
        tables=TABLES.format(key=_public_key()),
    )
    with (folder / "dc.toml").open("a") as settings:
        settings.write(DATACENTER)
    return image


def start(folder: Path, image: Path, examine_box: Callable[[GuestShell], T], tpm: Path | None = None) -> T:
    """Start the image, with a TPM if its socket is given, and examine the box."""
    socket = folder / "shell.sock"
    socket.unlink(missing_ok=True)
    with own_network():
        plug_in()
        machine = Machine(folder, image, CABLES, tpm=tpm, more=guest_shell.options(socket))
        try:
            shell = GuestShell(socket)
            return asyncio.run(watch(folder, lambda: examine_box(shell)))
        except BaseException:
            _log(machine.log()[-6000:])
            raise
        finally:
            machine.stop()


def site_with_tpm(folder: Path) -> Path:
    """Write a site file that requires the keys in the TPM; return it."""
    site = folder / "site-tpm.toml"
    site.write_text((folder / "site.toml").read_text().replace('keys = "file"', 'keys = "tpm"'))
    return site


def with_tpm(folder: Path, image: Path) -> int:
    """Start the image with a TPM, in which its site requires the keys; return the number of checks that pass."""
    give_identity(image, folder, site_with_tpm(folder))
    with software_tpm(folder / "tpm") as chip:
        return start(folder, image, lambda shell: check(shell, TPM_CHECKS), chip)


def figures() -> list[Figure]:
    """Return all figures, and print the state of the box to standard error."""
    assert fips.CAN_RUN, fips.REASON
    with tempfile.TemporaryDirectory(prefix="rap-trust-", dir="/var/tmp") as name:
        folder = Path(name)
        image = make_image(folder)
        results = start(folder, image, lambda shell: examine(shell, folder, image))
        passed = with_tpm(folder, image)
    return list(_figures(results, passed))


def _figures(results: Examination, passed: int) -> Iterator[Figure]:
    yield figure("checks of FIPS mode that fail", f"of {len(CHECKS)}", len(CHECKS) - results.passed, "<= 0")
    yield figure("facts of the papers that differ on the box", f"of {results.facts}", results.differ, "<= 0")
    yield figure("facts of the image's papers that differ", "", len(results.differ_from_tree), "<= 0")
    yield figure("deviations planted on the box", "", results.planted, ">= 20")
    yield figure("planted deviations that are not found", "", len(results.missed), "<= 0")
    yield figure("facts that differ without a planted deviation", "", len(results.others), "<= 0")
    yield figure("lines of the system's audit log in the data center", "", results.lines, ">= 1")
    failed = len(TPM_CHECKS) - passed
    yield figure("checks of a key in the TPM that fail", f"of {len(TPM_CHECKS)}", failed, "<= 0")


def _public_key() -> str:
    key = make_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(key).decode()


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


if __name__ == "__main__":
    run(figures, __doc__)
