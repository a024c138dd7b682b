"""The configuration of the local page complies with the Apache STIG, as a real httpd reads it and as it behaves."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from imaging.check.apache.evaluate import evaluate_server
from imaging.check.apache.httpd import read_server
from imaging.check.apache.rule import load_data
from imaging.check.apache.rules import all_rules
from imaging.check.types import Evaluation, InvalidCheckInput, RuleVerdict
from rap.__main__ import main
from rap.outcome import FAILED, OK, WRONG_INPUT
from tests.support.eventually import WAIT_SECONDS_MAX
from tests.support.httpd import CAN_RUN, REASON, client_tls, configure, make_pki, running

SERVER_RULES, SITE_RULES = 47, 27
"""The numbers of rules in the two STIGs (Server V3R2, Site V2R6)."""

pytestmark = pytest.mark.skipif(not CAN_RUN, reason=REASON)
ADDRESS = IPv4Interface("127.0.0.1/8")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def conf(tmp_path: Path, pki: Path) -> Path:
    return configure(tmp_path, pki, {1: ADDRESS})[0]


def _evaluate(conf: Path) -> Evaluation:
    return evaluate_server(read_server(conf))


def _failed(conf: Path) -> dict[str, tuple[str, ...]]:
    return {one.rule: one.findings for one in _evaluate(conf).fails}


def test_the_configuration_of_the_box_complies_with_every_rule(conf: Path) -> None:
    evaluation = _evaluate(conf)
    assert {one.rule: one.findings for one in evaluation.fails} == {}
    assert evaluation.passed
    assert sum(one.verdict is RuleVerdict.PASS for one in evaluation.rules) == len(all_rules())


def test_every_rule_of_both_stigs_is_checked_or_has_a_reason(conf: Path) -> None:
    rules = [one.rule for one in _evaluate(conf).rules]
    assert len(set(rules)) == len(rules)
    assert sum(rule.startswith("AS24-U1-") for rule in rules) == SERVER_RULES
    assert sum(rule.startswith("AS24-U2-") for rule in rules) == SITE_RULES
    assert "AS24-U1-000230" in all_rules() and "ssl" in load_data().modules


FAULTS = {
    "no keep-alive": ("KeepAlive On", "KeepAlive Off", "AS24-U1-000010", "KeepAlive Off"),
    "few requests": ("MaxKeepAliveRequests 100", "MaxKeepAliveRequests 10", "AS24-U1-000010", "from 100"),
    "plain HTTP": ("SSLEngine on", "SSLEngine off", "AS24-U1-000030", "SSLEngine off"),
    "old TLS": ("-all +TLSv1.2", "all +TLSv1.2", "AS24-U2-000030", "SSLProtocol all"),
    "unknown TLS": ("SSLProtocol -all +TLSv1.2 +TLSv1.3\n", "", "AS24-U2-000030", "has no SSLProtocol"),
    "weak suite": (
        ":ECDHE-RSA-AES128-GCM-SHA256",
        ":AES128-SHA",
        "AS24-U1-000900",
        "AES128-SHA is not an approved suite",
    ),
    "suites by level": (
        "SSLCipherSuite SSL ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
        "SSLCipherSuite HIGH:!aNULL",
        "AS24-U1-000900",
        "HIGH is not an approved suite",
    ),
    "client chooses": ("SSLHonorCipherOrder on", "SSLHonorCipherOrder off", "AS24-U1-000900", "Order off"),
    "compressed": (
        "LoadModule headers",
        "LoadModule filter_module modules/mod_filter.so\n"
        "LoadModule deflate_module modules/mod_deflate.so\nLoadModule headers",
        "AS24-U2-000870",
        "deflate_module is loaded",
    ),
    "no records": ("CustomLog", "#CustomLog", "AS24-U1-000065", "has no CustomLog"),
    "some records": (
        '-t rap-httpd" rap',
        '-t rap-httpd" rap env=!quiet',
        "AS24-U1-000065",
        "omits some requests",
    ),
    "short records": ("%a %A %h", "%h", "AS24-U1-000070", "%a %A is not logged"),
    "another format": ('-t rap-httpd" rap', '-t rap-httpd" common', "AS24-U2-000090", "%{Referer}i"),
    "records without time": ("%s %t %u", "%s %{%s}t %u", "AS24-U1-000750", "not logged with its zone"),
    "CGI module": (
        "LoadModule headers",
        "LoadModule cgid_module modules/mod_cgid.so\nLoadModule headers",
        "AS24-U1-000310",
        "cgid",
    ),
    "status module": (
        "LoadModule headers",
        "LoadModule status_module modules/mod_status.so\nLoadModule headers",
        "AS24-U1-000270",
        "status",
    ),
    "status page": (
        "FileETag",
        '<Location "/status">\nSetHandler server-status\n</Location>\nFileETag',
        "AS24-U1-000270",
        "SetHandler server-status",
    ),
    "an unneeded module": (
        "LoadModule headers",
        "LoadModule env_module modules/mod_env.so\nLoadModule headers",
        "AS24-U1-000230",
        "env_module is loaded",
    ),
    "WebDAV": (
        "LoadModule headers",
        "LoadModule dav_module modules/mod_dav.so\nLoadModule headers",
        "AS24-U1-000330",
        "dav_module",
    ),
    "proxy": (
        "ProxyRequests Off",
        "ProxyRequests On",
        "AS24-U1-000260",
        "ProxyRequests On",
    ),
    "proxy to another machine": (
        'ProxyPass "/" "unix:',
        'ProxyPass "/other" "http://192.0.2.1/"\nProxyPass "/" "unix:',
        "AS24-U1-000260",
        "http://192.0.2.1/",
    ),
    "proxy for tunnels": (
        "LoadModule reqtimeout",
        "LoadModule proxy_connect_module modules/mod_proxy_connect.so\nLoadModule reqtimeout",
        "AS24-U1-000260",
        "proxy_connect_module is loaded",
    ),
    "own users": (
        "FileETag",
        "LoadModule authn_core_module modules/mod_authn_core.so\n"
        "LoadModule authn_file_module modules/mod_authn_file.so\n"
        '<Location "/a">\nAuthUserFile /etc/passwd\n</Location>\nFileETag',
        "AS24-U1-000240",
        "authuserfile /etc/passwd",
    ),
    "handler": (
        "LoadModule headers",
        "LoadModule mime_module modules/mod_mime.so\nAddHandler x .x\nLoadModule headers",
        "AS24-U1-000300",
        "addhandler x .x",
    ),
    "shell type": (
        "LoadModule headers",
        "LoadModule mime_module modules/mod_mime.so\nAddType text/plain .sh\nLoadModule headers",
        "AS24-U2-000300",
        ".sh",
    ),
    "execution": ("Options None", "Options ExecCGI", "AS24-U2-000310", "Options execcgi"),
    "root open": (
        "Require all denied\n</Directory>",
        "Require all granted\n</Directory>",
        "AS24-U2-000350",
        "is not denied",
    ),
    ".htaccess": (
        "AllowOverride None",
        "AllowOverride All",
        "AS24-U2-000350",
        "AllowOverride All",
    ),
    "lists": ("Options None", "Options Indexes", "AS24-U2-000620", "Options indexes"),
    "no index": (
        "LoadModule headers",
        "LoadModule dir_module modules/mod_dir.so\nLoadModule headers",
        "AS24-U2-000620",
        "has no DirectoryIndex",
    ),
    "account with a shell": ("User www-data", "User sync", "AS24-U1-000940", "sync has the shell"),
    "long wait": ("Timeout 10", "Timeout 300", "AS24-U1-000590", "from 1 to 60"),
    "endless requests": ("RequestReadTimeout", "#RequestReadTimeout", "AS24-U1-000650", "no time limit"),
    "discloses its version": (
        "ServerTokens Prod",
        "ServerTokens Full",
        "AS24-U1-000620",
        "ServerTokens Full",
    ),
    "signs its errors": ("ServerSignature Off", "ServerSignature On", "AS24-U2-000630", "ServerSignature On"),
    "httpd's own errors": ("ErrorDocument 404", "#ErrorDocument 404", "AS24-U1-000620", "for 404"),
    "traces": ("TraceEnable Off", "TraceEnable On", "AS24-U1-000630", "TraceEnable On"),
    "debugging": ("LogLevel info", "LogLevel info ssl:trace4", "AS24-U2-000640", "ssl:trace4"),
    "open cookies": ("$1; HttpOnly; Secure", "$1; Secure", "AS24-U1-000470", "not made HttpOnly"),
    "no identifier for requests": (
        "LoadModule unique_id_module modules/mod_unique_id.so",
        "",
        "AS24-U1-000520",
        "unique_id_module is not loaded",
    ),
    "endless session": (
        "LoadModule headers",
        "LoadModule session_module modules/mod_session.so\nSessionMaxAge 0\nLoadModule headers",
        "AS24-U1-000460",
        "from 1 to 600",
    ),
}


@pytest.mark.parametrize(("right", "wrong", "rule", "message"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_by_its_rule(
    conf: Path, right: str, wrong: str, rule: str, message: str
) -> None:
    text = conf.read_text().replace("User apache", "User www-data")
    assert right in text
    conf.write_text(text.replace(right, wrong))
    findings = _failed(conf).get(rule, ())
    assert any(message in one for one in findings), findings
    assert all(one.startswith(str(conf)) and "; " in one for one in findings)


@pytest.mark.parametrize("listen", ["443", "0.0.0.0:443", "[::]:443"])
def test_listening_on_all_addresses_is_found(conf: Path, listen: str) -> None:
    (conf.parent / "rap-listen.conf").write_text(f"Listen {listen}\n")
    findings = _failed(conf)
    assert findings.keys() == {"AS24-U1-000360", "AS24-U2-000360"}
    assert f"rap-listen.conf:1: Listen {listen}" in findings["AS24-U1-000360"][0]


def test_files_that_other_users_can_change_or_read_are_found(conf: Path) -> None:
    conf.chmod(0o664)
    key = next(conf.parent.parent.glob("pki/rap-0001.key"))
    key.chmod(0o640)
    assert _failed(conf).keys() == {"AS24-U1-000440", "AS24-U2-000780", "AS24-U2-000390"}


def test_a_server_that_runs_as_root_is_found(conf: Path) -> None:
    """httpd refuses this unless it was built with the option that allows it."""
    as_root = replace(read_server(conf), user="root", user_id=0)
    assert {"AS24-U1-000430", "AS24-U1-000940"} == {one.rule for one in evaluate_server(as_root).fails}


def test_a_configuration_that_httpd_refuses_is_reported(conf: Path) -> None:
    conf.write_text(conf.read_text() + "Nonsense on\n")
    with pytest.raises(InvalidCheckInput, match="Invalid command 'Nonsense'"):
        read_server(conf)


def test_the_command_prints_findings_and_sets_its_status(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "check", "--httpd", str(conf), "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["verdict"] == "pass"
    conf.write_text(conf.read_text().replace("Timeout 10\n", "Timeout 3000\n"))
    assert main(["image", "check", "--httpd", str(conf)]) == FAILED
    assert "Timeout 3000; write a number from 1 to 60" in capsys.readouterr().out
    assert main(["image", "check", "--httpd", str(conf) + "x"]) == WRONG_INPUT
    assert main(["image", "check"]) == WRONG_INPUT
    assert main(["image", "check", "--httpd", str(conf), "--stand-in"]) == WRONG_INPUT


# ---- a server that runs ----


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_server_with_the_configuration_behaves_as_the_rules_require(tmp_path: Path, pki: Path) -> None:
    conf, ports = configure(tmp_path, pki, {1: ADDRESS})
    address = ("127.0.0.1", ports[1])

    def ask(method: str, path: str, host: str = "") -> tuple[int, str, str]:
        """Return the status, the header `Server`, and the beginning of the body of a response."""
        connection = http.client.HTTPSConnection(*address, context=client_tls(), timeout=WAIT_SECONDS_MAX)
        try:
            connection.request(method, path, headers={"Host": host} if host else {})
            answer = connection.getresponse()
            return answer.status, answer.headers["Server"], answer.read(24).decode()
        finally:
            connection.close()

    with running(conf, address):
        assert ask("GET", "/") == (503, "Apache", "The box program does not")
        assert ask("GET", "/", host="rap.example")[0] == 403
        assert ask("TRACE", "/")[0] in (403, 405)
        for method in ("PUT", "DELETE", "OPTIONS", "CONNECT"):
            assert ask(method, "/index.html")[0] in (400, 403, 405)
        for newest, suite in (
            (ssl.TLSVersion.TLSv1_2, {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"}),
            (ssl.TLSVersion.TLSv1_3, {"TLS_AES_128_GCM_SHA256"}),
        ):
            with (
                socket.create_connection(address) as plain,
                client_tls(newest).wrap_socket(plain) as secure,
            ):
                assert (secure.cipher() or ("",))[0] in suite
        old = client_tls(ssl.TLSVersion.TLSv1_1)
        with socket.create_connection(address) as plain, pytest.raises(ssl.SSLError):
            old.wrap_socket(plain)
