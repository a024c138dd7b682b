"""FIPS mode, audit lines and papers of a started box: `python -m bench.image.trust [--json]`. Needs root.

The box's image, with OpenSSL's FIPS provider as the default and Debian's sshd, httpd, OpenVPN and auditd, starts once
in QEMU with fips=1 and `fips = "required"`. It forwards a report, which it would not outside of FIPS mode. Then

* each service is examined: what it offers, that it refuses what is not approved, and that it depends on the provider;
* the papers of this box are made from `rap trust evidence --running`, and `rap trust verify --running` on the box
  must agree;
* deviations are planted, those of tests/fixtures/trust/deviations.toml and some of the kernel and of processes, as
  many at once as are about different facts. Each must be found, and nothing else.

The papers of the image itself (`rap trust papers --tree`) are compared with the box, too.

Needs what `make setup-image`, `make setup-sessions` and `make setup-fips` install. It takes about ten minutes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import select

from bench.figures import Figure, figure, run
from datacenter.store.schema import box_audit
from datacenter.store.store import Store
from settings.toml import load
from settings.types import Table
from tests.support import fips
from tests.support.eventually import eventually
from tests.support.imaging import fips_packages, guest_shell
from tests.support.imaging.emulated import Machine
from tests.support.imaging.first_report import CABLES, build_image, datacenter, plug_in, reporting, submit
from tests.support.imaging.guest_shell import GuestShell
from tests.support.namespaces import own_network
from tests.support.paths import FIXTURES, ROOT
from wire.pki.hierarchy import Authority

START_SECONDS_MAX: Final = 900.0
"""A limit that prevents hanging on a busy machine."""
OTHER: Final = "OPENSSL_CONF=/dev/null"
"""A client outside of FIPS mode, which offers everything."""
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
/usr/sbin/sshd -T | grep -Ei '^(ciphers|macs|kexalgorithms|hostkeyalgorithms)' | tee /dev/stderr
! /usr/sbin/sshd -T | grep -Ei '^(ciphers|macs|kex|hostkey)' | grep -Ei 'chacha|25519|umac|md5|sha1'""",
    "sshd completes an approved key exchange": "try_ssh | grep 'Permission denied'",
    "sshd refuses ChaCha20": "try_ssh -o Ciphers=chacha20-poly1305@openssh.com | grep 'no matching cipher'",
    "sshd refuses X25519": "try_ssh -o KexAlgorithms=curve25519-sha256 | grep 'no matching key exchange'",
    "sshd refuses UMAC": "try_ssh -o Ciphers=aes128-ctr -o MACs=umac-64@openssh.com | grep 'no matching MAC'",
    "sshd depends on the provider": """\
export OPENSSL_CONF=/run/no-provider.cnf
start_sshd 2223
! port=2223 try_ssh | grep 'Permission denied'""",
    "OpenVPN offers AES-GCM": "openvpn --show-ciphers | grep AES-256-GCM",
    "OpenVPN offers no ChaCha20": "! { openvpn --show-ciphers; openvpn --show-tls; } | grep -i chacha",
    "OpenVPN depends on the provider": f"! {WITHOUT} openvpn --show-ciphers | grep AES-256-GCM",
    "httpd completes an approved handshake": "try_tls -cipher ECDHE+AESGCM | grep -E 'Cipher is ECDHE-.*-AES128-GCM'",
    "httpd refuses ChaCha20": "! try_tls -cipher ECDHE+CHACHA20 | grep 'Cipher is ECDHE'",
    "httpd refuses TLS 1.1": f"! {OTHER} openssl s_client -connect $page -tls1_1 -cipher ALL:@SECLEVEL=0 "
    "< /dev/null 2>&1 | grep 'Cipher is [A-Z]'",
    "httpd depends on the provider": f"! {WITHOUT} /usr/sbin/httpd -t -f /etc/httpd/conf/rap.conf",
}
"""What each service must do, as scripts that succeed."""
PREPARE: Final = f"""\
exec 2>&1
set -e
sed 's/^module = .*/module = \\/absent.so/; /config_diagnostics/d' /etc/ssl/openssl.cnf > /run/no-provider.cnf
mkdir -p /run/sshd /run/httpd
cat > /run/functions.sh <<'END'
start_sshd() {{ /usr/sbin/sshd -p $1 -o ListenAddress=127.0.0.1 -E /run/sshd.log; }}
try_ssh() {{
    {OTHER} ssh -p ${{port:-2222}} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \\
        "$@" labadmin@127.0.0.1 2>&1 | tee /dev/stderr
}}
page=10.77.1.1:8443
try_tls() {{ {OTHER} openssl s_client -connect $page -tls1_2 "$@" < /dev/null 2>&1; }}
END
. /run/functions.sh
getent passwd apache > /dev/null || useradd --system --no-create-home apache || true
mkdir -p /etc/httpd/logs
"""
START_SERVICES: Final = """\
. /run/functions.sh
exec 2>&1
start_sshd 2222
/usr/sbin/httpd -f /etc/httpd/conf/rap.conf
"""


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
    Plant("the kernel forwards packets", "system.kernel-settings",
          "echo 1 > /proc/sys/net/ipv4/ip_forward", "echo 0 > /proc/sys/net/ipv4/ip_forward"),
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
    authority = Authority.make("another").certificate.public_bytes(_pem()).decode()
    plants = load(FIXTURES / "trust/deviations.toml", FilePlants).plant
    return [_of_file(number, one, authority) for number, one in enumerate(plants) if one.fact not in UNSEEN]


def _pem() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.PEM


def _of_file(number: int, one: FilePlant, authority: str) -> Plant:
    change = json.dumps([f"/{one.file}", one.old, one.new.replace("AUTHORITY", authority)])
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
assert old in text, "the file has not the text " + old
text = text.replace(old, new, 1) if old else text + new
open(path, "w").write(text)
END
"""
    undo = (
        f"if [ -e /run/kept-{number} ]; then cp -p /run/kept-{number} /{one.file}; else rm -f /{one.file}; fi"
    )
    return Plant(one.name, one.fact, make, undo)


def groups(plants: Sequence[Plant]) -> Iterator[list[Plant]]:
    """Yield groups of deviations of different facts, few and large."""
    waiting = list(plants)
    while waiting:
        group: dict[str, Plant] = {}
        for one in waiting:
            group.setdefault(one.fact, one)
        yield list(group.values())
        waiting = [one for one in waiting if one not in group.values()]


class Looked(NamedTuple):
    """What was found on the started box."""

    passed: int
    providers: str
    facts: int
    differ: int
    differ_from_tree: list[str]
    planted: int
    missed: list[str]
    others: list[str]
    lines: int
    events: list[str]


def look(shell: GuestShell, folder: Path, image: Path) -> Looked:
    """Examine the started box."""
    prepared = shell.run(PREPARE)
    _say(f"prepared: {prepared.status} {prepared.output}")
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
    _say(shown.output)
    agreed = verify(shell)
    rap("trust", "papers", "--site", site, "--tree", image, "--no-scan", "-o", folder / "papers-tree")
    compared = rap("trust", "verify", folder / "papers-tree/papers.json", "--evidence", evidence)
    _say(compared)
    of_tree = [line.split()[1] for line in compared.splitlines() if line.startswith("DIFFERS")]
    planted, missed, others = plant(shell)
    services = shell.run(START_SERVICES)
    _say(f"services: {services.status} {services.output}")
    passed, providers = 0, ""
    for name, script in CHECKS.items():
        done = shell.run(f"set -e\n. /run/functions.sh\n{script}")
        _say(f"{'passes' if done.status == 0 else 'FAILS '} {name}\n{_indented(done.output)}")
        passed += done.status == 0
        providers = done.output if "has loaded the FIPS" in name else providers
    texts = audit_texts(folder)
    lines = [text for kind, text in texts if kind == "line"]
    _say("\n".join(f"audit {kind}: {text[:150]}" for kind, text in texts[:40]))
    events = sorted({text.split()[0] for kind, text in texts if kind != "line"})
    differ = len(agreed["deviations"])
    return Looked(
        passed, providers, agreed["compared"], differ, of_tree, planted, missed, others, len(lines), events
    )


def plant(shell: GuestShell) -> tuple[int, list[str], list[str]]:
    """Plant deviations; return their number, those that were not found, and facts that differed without one."""
    planted, missed, others = 0, list[str](), list[str]()
    for group in groups([*OF_MACHINE, *file_plants()]):
        made = []
        for one in group:
            done = shell.run(f"set -e\n{one.make}")
            if done.status:
                _say(f"cannot be planted: {one.name}: {done.output}")
            else:
                made.append(one)
        found = {deviation["fact"] for deviation in verify(shell)["deviations"]}
        planted += len(made)
        missed += [one.name for one in made if one.fact not in found]
        expected = {fact for one in made for fact in (one.fact, *ALSO.get(one.fact, ()))}
        others += sorted(found - expected)
        for one in reversed(group):
            shell.run(one.undo)
    after = [deviation["fact"] for deviation in verify(shell)["deviations"]]
    _say(f"planted {planted}; missed {missed}; others {others}; left after undoing {after}")
    return planted, missed, others


def verify(shell: GuestShell) -> Any:
    """Return what `rap trust verify` on the box finds."""
    done = shell.run("rap trust verify /run/papers.json --running --json")
    return json.loads(done.output)


def collect(shell: GuestShell, file: Path) -> Path:
    """Collect the evidence on the box, as its administrator does."""
    done = shell.run("rap trust evidence --running -o /run/evidence.json")
    assert done.status == 0, done.output
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


def rap(*words: object) -> str:
    """Run the command on this machine; return what it prints."""
    command = [sys.executable, "-m", "rap", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


async def _watch(folder: Path, image: Path, shell: GuestShell) -> Looked:
    async with datacenter(folder), reporting(folder) as agent:
        submit(agent)

        def has_arrived() -> bool:
            return (
                any(text.startswith("fips-in-force") for _, text in audit_texts(folder)) and not agent.waiting
            )

        async with asyncio.timeout(START_SECONDS_MAX):
            await eventually(has_arrived, None, every_s=2)
        _say("the report is stored")
        return await asyncio.to_thread(look, shell, folder, image)


def examine(folder: Path) -> Looked:
    """Build the image in `folder`, start it, and examine the box."""
    (packages := folder / "rpm").mkdir(exist_ok=True)
    fips_packages.add_packages(packages)
    image = build_image(
        folder,
        "systemd.journald.forward_to_console=1",
        fips_packages.KICKSTART + guest_shell.KICKSTART,
        settings='fips = "required"\n',
    )
    return start(folder, image)


def start(folder: Path, image: Path) -> Looked:
    """Start the image, and examine the box."""
    place = folder / "shell.sock"
    with own_network():
        plug_in()
        machine = Machine(folder, image, CABLES, more=guest_shell.options(place))
        try:
            shell = GuestShell(place)
            return asyncio.run(_watch(folder, image, shell))
        except BaseException:
            _say(machine.log()[-6000:])
            raise
        finally:
            machine.stop()


def figures() -> list[Figure]:
    """Return all figures, and print what the box shows to standard error."""
    assert fips.CAN_RUN, fips.REASON
    with tempfile.TemporaryDirectory(prefix="rap-trust-", dir="/var/tmp") as name:
        found = examine(Path(name))
    return list(_figures(found))


def _figures(found: Looked) -> Iterator[Figure]:
    yield figure("checks of FIPS mode that fail", f"of {len(CHECKS)}", len(CHECKS) - found.passed, "<= 0")
    yield figure("facts of the papers that a box shows otherwise", f"of {found.facts}", found.differ, "<= 0")
    yield figure("facts of the image's papers that differ", "", len(found.differ_from_tree))
    yield figure("deviations planted on the box", "", found.planted, ">= 20")
    yield figure("planted deviations that are not found", "", len(found.missed), "<= 0")
    yield figure("facts that differ without a planted deviation", "", len(found.others), "<= 0")
    yield figure("lines of the system's audit log in the data center", "", found.lines, ">= 1")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


if __name__ == "__main__":
    run(figures, __doc__)
