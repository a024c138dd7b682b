"""A stand-in for an RPM repository, where none can be reached: made of the distribution's own .deb packages.

It is for tests, for CI and for trying out `rap image build`, never for a device. Each Debian package becomes an
RPM of the same name and content; `packages.toml` says which ones, what RHEL calls them, and what there is in place
of those that would be too much or are not in Debian. Whatever needs Debian's own ways of configuring (debconf,
alternatives) is left out, so that a tree of these packages starts and serves, and is nothing to judge a
distribution by.
"""
