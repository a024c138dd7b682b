"""The data center's program reports when it is ready, ends on a signal, and stores acknowledged records."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import select

from datacenter.main import check_datacenter, run_datacenter
from datacenter.store import queries
from datacenter.store.store import Store
from datacenter.store.tables.schema import REVISION, alerts
from rap.__main__ import main
from settings.problems import SettingsError
from settings.types import Endpoint
from tests.support.datacenter.evaluation.scored_triggers import write_triggers
from tests.support.datacenter.programs import configure
from tests.support.datacenter.store.batches import AT_MS, alert, encoded
from tests.support.eventually import WAIT_SECONDS_MAX, poll_until
from wire.compression import Compressor
from wire.dial.dialer import dial
from wire.http.connection import ClientConnection, HttpError
from wire.messages import Entry, ProfileInForce, encode, encode_batch
from wire.pki import directory as pki_directory
from wire.pki.hierarchy import Authority, Validity, make_key
from wire.tls.context import Identity, client_context

PROGRAM = """
import sys
from datacenter.main import run_datacenter
run_datacenter(sys.argv[1], ready=lambda ports: print(ports.boxes, flush=True))
print("stopped", flush=True)
"""


async def connected(port: int, box: Identity) -> ClientConnection:
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: ClientConnection("localhost", 1000),
        "127.0.0.1",
        port,
        ssl=client_context(box),
        server_hostname="localhost",
    )
    return connection


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    file, box = configure(tmp_path, url)

    async def send(port: int) -> int:
        connection = await connected(port, box)
        response = await connection.request("POST", "/v1/batches", Compressor().compress(encoded(alert(1))))
        program.send_signal(number)
        await connection.lost
        return response.status

    command = [sys.executable, "-c", PROGRAM, str(file)]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as program,
    ):
        assert program.stdout is not None
        try:
            assert asyncio.run(send(int(program.stdout.readline()))) == 200
            rest, _ = program.communicate(timeout=WAIT_SECONDS_MAX)
        finally:
            program.kill()
    assert (program.returncode, rest) == (0, "stopped\n")
    assert "stopping because of a signal" in (tmp_path / "log").read_text()
    store = Store(url)
    assert queries.counts(store) == {("RAP-0001", "CHEM-0001"): 1}
    store.close()


def test_stored_records_are_evaluated_by_the_configured_triggers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    file, box = configure(tmp_path, url)
    write_triggers(
        tmp_path / "triggers",
        bath='model = "chemistry-analyzer"\nseverity = "warning"\ncomponent = "lamp"\ntext = "Twice"\n'
        'when = "count(T0101, 1h) >= 2"\n',
    )
    file.write_text(file.read_text() + '[evaluation]\ntriggers = "triggers"\n')
    profile = encode(Entry("", 0, ProfileInForce(AT_MS, "CHEM-0001", "chemistry-analyzer", 1)))
    reports = [encode(Entry("CHEM-0001", 1, alert(number))) for number in (1, 2)]
    body = Compressor().compress(encode_batch(1, list(enumerate([profile, *reports], 1))))

    async def send(port: int) -> None:
        connection = await connected(port, box)
        assert (await connection.request("POST", "/v1/batches", body)).status == 200
        connection.close()

    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(file)], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        try:
            asyncio.run(send(int(program.stdout.readline())))
            store = Store(url)
            poll_until(lambda: [*store.read(select(alerts.c.trigger))] == [("bath",)])
            store.close()
        finally:
            program.kill()


def test_a_trigger_without_a_score_is_a_configuration_error(tmp_path: Path) -> None:
    file, _ = configure(tmp_path, f"sqlite:///{tmp_path / 'store.db'}")
    (tmp_path / "triggers").mkdir()
    (tmp_path / "triggers" / "bath.toml").write_text(
        'model = "chemistry-analyzer"\nseverity = "info"\ncomponent = "bath"\ntext = "x"\nwhen = "lamp-h > 1"\n'
    )
    file.write_text(file.read_text() + '[evaluation]\ntriggers = "triggers"\n')
    for start in (check_datacenter, run_datacenter):
        with pytest.raises(SettingsError, match=r"scores\.toml: triggers\.bath: is missing; .* --write`"):
            start(file)


def test_a_wrong_trigger_file_is_a_configuration_error(tmp_path: Path) -> None:
    file, _ = configure(tmp_path, f"sqlite:///{tmp_path / 'store.db'}")
    (tmp_path / "triggers").mkdir()
    (tmp_path / "triggers" / "bath.toml").write_text('model = "chemistry-analyser"\n')
    file.write_text(file.read_text() + '[evaluation]\ntriggers = "triggers"\n')
    with pytest.raises(SettingsError, match=r"bath\.toml:1: severity: is missing"):
        check_datacenter(file)
    (tmp_path / "triggers" / "bath.toml").unlink()
    (tmp_path / "triggers").rmdir()
    with pytest.raises(SettingsError, match=r"dc\.toml.* is not a folder; give one with trigger files"):
        check_datacenter(file)


def test_an_unsupported_database_is_a_configuration_error(tmp_path: Path) -> None:
    file, _ = configure(tmp_path, "mongodb://localhost/rap")
    with pytest.raises(SettingsError, match=r"dc\.toml:6: store\.url: .*"):
        run_datacenter(file)


def test_migrate_upgrades_once_and_check_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    file, _ = configure(tmp_path, url)
    migrate = ["dc", "migrate", "--config", str(file)]
    assert main([*migrate, "--check"]) == 1
    assert f"the database is empty; this program needs {REVISION}" in capsys.readouterr().out
    assert main(migrate) == 0
    assert "upgraded from an empty database" in capsys.readouterr().out
    assert main([*migrate, "--check"]) == 0
    assert capsys.readouterr().out == f"schema revision {REVISION}: current\n"


def test_a_database_of_a_later_version_is_wrong_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    file, _ = configure(tmp_path, url)
    Store(url).close()
    with closing(sqlite3.connect(tmp_path / "store.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '0815'")
        database.commit()
    for verb in (["migrate"], ["migrate", "--check"], ["serve"]):
        assert main(["dc", *verb, "--config", str(file)]) == 2
        assert "revision 0815" in capsys.readouterr().err


def refused_after(revoke: Callable[[], object], file: Path, box: Identity) -> str:
    """Serve a box, revoke it while the program runs, and wait until it is refused; return the log."""

    async def send(port: int) -> int:
        connection = await dial(Endpoint("localhost", port), client_context(box), reply_bytes_max=1000)
        body = Compressor().compress(encoded(alert(1)))
        status = (await connection.request("POST", "/v1/batches", body)).status
        connection.close()
        return status

    async def send_until_refused(port: int) -> None:
        assert await send(port) == 200
        revoke()
        with pytest.raises((HttpError, OSError)):
            while True:
                await send(port)

    command = [sys.executable, "-c", PROGRAM, str(file)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdout=pipe, stderr=pipe) as program:
        assert program.stdout is not None
        try:
            asyncio.run(
                asyncio.wait_for(send_until_refused(int(program.stdout.readline())), WAIT_SECONDS_MAX)
            )
            program.terminate()
            _, errors = program.communicate(timeout=WAIT_SECONDS_MAX)
        finally:
            program.kill()
    return str(errors)


def with_revocations(file: Path, folder: str) -> Path:
    """Let the configuration use the TLS files and the revocation list of another folder; return its path."""
    text = file.read_text().replace('"dc.', f'"{folder}/dc.')
    file.write_text(text.replace("[tls]", f'[tls]\nrevocations = "{folder}/vendor-ca.crl"'))
    return file


def test_a_box_that_is_revoked_while_the_program_runs_is_refused(tmp_path: Path) -> None:
    file, _ = configure(tmp_path, f"sqlite:///{tmp_path / 'store.db'}")
    folder = tmp_path / "pki"
    pki_directory.init(folder)
    box = pki_directory.issue(folder, "RAP-0001", "box")
    pki_directory.issue(folder, "DC", "datacenter", ("localhost",))
    pki_directory.revoke(folder, [])
    errors = refused_after(
        lambda: pki_directory.revoke(folder, ["RAP-0001"]), with_revocations(file, "pki"), box
    )
    assert "RAP-0001 is refused: its certificate: it is revoked" in errors


def test_a_box_whose_ca_is_revoked_while_the_program_runs_is_refused(tmp_path: Path) -> None:
    file, _ = configure(tmp_path, f"sqlite:///{tmp_path / 'store.db'}")
    folder, vendor, key = tmp_path / "plants", Authority.make("vendor root"), make_key()
    plant = vendor.subordinate("plant")
    vendor.issue(folder, "dc", hosts=("localhost",), trusts=vendor, key=key)
    box = plant.issue(folder, "RAP-0001", trusts=vendor, key=key)
    crl = folder / "vendor-ca.crl"
    crl.write_bytes(vendor.revoke([]))
    errors = refused_after(
        lambda: crl.write_bytes(vendor.revoke([plant.certificate.serial_number])),
        with_revocations(file, "plants"),
        box,
    )
    assert "RAP-0001 is refused: its certificate: a CA between it and the trusted root is revoked" in errors


def test_a_renewed_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    file, box = configure(tmp_path, f"sqlite:///{tmp_path / 'store.db'}")

    async def shown(port: int) -> int:
        connection = await dial(Endpoint("localhost", port), client_context(box), reply_bytes_max=1000)
        assert connection.transport is not None
        der = connection.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        connection.abort()
        return x509.load_der_x509_certificate(der).serial_number

    async def until_renewed(port: int) -> None:
        old = await shown(port)
        vendor.issue(tmp_path / "new", "dc", hosts=("localhost",), trusts=vendor, key=make_key())
        renewed = x509.load_pem_x509_certificate((tmp_path / "new" / "dc.crt").read_bytes()).serial_number
        (tmp_path / "new" / "dc.crt").replace(tmp_path / "dc.crt")
        for _ in range(20):
            assert await shown(port) == old  # the new certificate has no key yet
        (tmp_path / "new" / "dc.key").replace(tmp_path / "dc.key")
        async with asyncio.timeout(20):
            while await shown(port) == old:
                pass
        assert await shown(port) == renewed

    vendor = Authority.make("vendor")
    vendor.issue(tmp_path, "dc", hosts=("localhost",), trusts=vendor, key=make_key())
    box = vendor.issue(tmp_path, "RAP-0001", trusts=vendor, key=make_key())
    program = PROGRAM.replace("import sys\n", "import sys\nimport datacenter.main\n", 1).replace(
        "run_datacenter(sys", "datacenter.main.REFRESH_SECONDS = 0.02\nrun_datacenter(sys"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as running:
        assert running.stdout is not None
        try:
            asyncio.run(until_renewed(int(running.stdout.readline())))
        finally:
            running.kill()


def test_check_inspects_the_certificate_without_serving(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, _ = configure(tmp_path, f"sqlite:///{tmp_path / 'store.db'}")
    check = ["dc", "serve", "--config", str(file), "--check"]
    assert main(check) == 0
    assert capsys.readouterr().out == f"{file}: OK\n"
    key = (tmp_path / "dc.key").read_bytes()
    vendor, other = Authority.make("vendor"), make_key()
    for validity, message in ((Validity.days(-3), "expired on"), (Validity.days(3), "is not the key of")):
        vendor.issue(tmp_path, "dc", hosts=("localhost",), trusts=vendor, key=other, validity=validity)
        if message != "expired on":
            (tmp_path / "dc.key").write_bytes(key)
        assert main(check) == 2
        assert message in capsys.readouterr().err
    vendor.issue(tmp_path, "dc", hosts=("localhost",), trusts=vendor, key=other, validity=Validity.days(9))
    assert main(check) == 0
    assert "warning: " in capsys.readouterr().err
