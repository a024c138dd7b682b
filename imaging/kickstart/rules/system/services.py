"""Rules about services that must or must not be enabled."""

from __future__ import annotations

from typing import Final

from imaging.kickstart.rule import Case, Faults, LintFault, risk

UNWANTED: Final = {
    "telnet": "RHEL-09-215040",
    "tftp": "RHEL-09-215060",
    "vsftpd": "RHEL-09-215015",
    "debug-shell": "RHEL-09-211055",
    "kdump": "RHEL-09-213115",
    "autofs": "RHEL-09-231040",
}


@risk
def service_on_and_off(case: Case) -> Faults:
    """Services are disabled first, then enabled: one of the two entries is a mistake.

    Source: pykickstart, `services`.
    """
    for command in case.ks.named("services"):
        for name in sorted(set(command.data.enabled) & set(command.data.disabled)):
            yield LintFault(
                command.location, f"service {name} is both enabled and disabled", "remove it from one list"
            )


@risk
def unwanted_service(case: Case) -> Faults:
    """Services that the STIG requires to be disabled must not be enabled.

    Source: the STIG rule in the finding.
    """
    for command in case.ks.named("services"):
        for name in command.data.enabled:
            source = UNWANTED.get(name.partition(".")[0])
            if source:
                yield LintFault(
                    command.location, f"service {name} is enabled ({source})", "leave it out of --enabled"
                )


@risk
def protection_disabled(case: Case) -> Faults:
    """Services that the STIG requires to be enabled must not be disabled.

    Source: RHEL-09-251015, 653015, 652010, 252015.
    """
    for command in case.ks.named("services"):
        for name in command.data.disabled:
            if name.partition(".")[0] in ("auditd", "chronyd", "firewalld", "rap-firewall", "rsyslog"):
                yield LintFault(command.location, f"service {name} is disabled", "leave it out of --disabled")
