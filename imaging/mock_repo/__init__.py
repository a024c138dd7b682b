"""A mock RPM repository, for machines without access to a real one, made from Debian's .deb packages.

It is for tests, CI and trying out `rap image build`, never for a device. Each Debian package becomes an RPM with the
same content, under its name or RHEL's. `packages.toml` lists the packages, their names in RHEL, and stubs for
packages that are too large or not in Debian. Debian's configuration mechanisms (debconf, alternatives) are left out:
a system of these packages starts and works, but proves nothing about a distribution.
"""
