"""FIPS mode and SELinux."""

from __future__ import annotations

from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule


@risk
def fips_missing(case: Case) -> Faults:
    """FIPS mode is enabled by a kernel argument.

    Source: RHEL-09-671010; RHEL 10 has no fips-mode-setup.
    """
    command = case.ks.last("bootloader")
    if (command is None and case.ks.open_ended) or (command is not None and command.data.disabled):
        return
    arguments = (command.data.appendLine or "").split() if command else []
    if "fips=1" not in arguments:
        given = next((argument for argument in arguments if argument.startswith("fips=")), "no fips=1")
        yield LintFault(
            command.location if command else case.ks.top,
            f"the kernel's command line has {given}",
            'write `bootloader --append="fips=1"`',
        )


@rule
def fips_mode_setup(case: Case) -> Faults:
    """RHEL 10 has no fips-mode-setup.

    Source: "Considerations in adopting RHEL 10", Security.
    """
    if case.ks.version == "RHEL9":
        return
    for section in case.ks.sections_named("%post"):
        for location, text in section.lines():
            if "fips-mode-setup" in text and not text.lstrip().startswith("#"):
                yield LintFault(
                    location,
                    f"{case.ks.version} has no fips-mode-setup",
                    "start the installer with fips=1, and keep it in bootloader --append",
                )


@risk
def selinux_off(case: Case) -> Faults:
    """SELinux is in enforcing mode.

    Source: RHEL-09-431010.
    """
    command = case.ks.last("selinux")
    if command is not None and command.data.selinux != 1:
        yield LintFault(command.location, "SELinux is not in enforcing mode", "write `selinux --enforcing`")
