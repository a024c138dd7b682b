#!/bin/sh
# What the kernel world and its tests need of the machine beyond Python: `make setup-kernel`, as root.
#
# Installs packages that are missing, and nothing else. Labs start their own squid and dante inside namespaces; the
# packages would start theirs as services of the machine. Where such a service is new, it is kept from starting and
# disabled; one that was there before is let be.
set -eu

DEBIAN="firewalld dbus-daemon nftables libnftables1 iproute2 conntrack tcpdump squid dante-server dante-client openssl util-linux mount e2fsprogs"
REDHAT="firewalld dbus-daemon nftables iproute conntrack-tools tcpdump squid dante-server dante openssl util-linux e2fsprogs"
SERVICES="squid danted sockd firewalld"

lack() {
	echo "setup-kernel: $1" >&2
	exit 3
}

is_new() { ! command -v "$1" >/dev/null 2>&1 && ! [ -e "/usr/sbin/$1" ]; }

[ "$(uname -s)" = Linux ] || lack "the kernel world runs on Linux only"
[ "$(id -u)" = 0 ] || lack "only root can install packages; run: sudo make setup-kernel"

if command -v apt-get >/dev/null; then
	installed() { [ "$(dpkg-query --show --showformat '${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]; }
	# RUNLEVEL=1: sysvinit's invoke-rc.d starts nothing that has no business in single-user mode
	install() {
		apt-get update --quiet=2
		RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --no-install-recommends "$@"
	}
	PACKAGES=$DEBIAN
elif command -v dnf >/dev/null; then
	installed() { rpm --query --quiet "$1"; }
	install() { dnf install --quiet --assumeyes "$@"; }
	PACKAGES=$REDHAT
else
	lack "knows apt-get and dnf only; install by hand: $DEBIAN"
fi

missing=
for package in $PACKAGES; do
	installed "$package" || missing="$missing $package"
done
if [ -z "$missing" ]; then
	echo "setup-kernel: all there: $PACKAGES"
	exit 0
fi

new=
for service in $SERVICES; do
	! is_new "$service" || new="$new $service"
done
systemd=false
[ ! -d /run/systemd/system ] || systemd=true

release() {
	$systemd || return 0
	for service in $new; do
		systemctl unmask --quiet --runtime "$service.service" || true
		systemctl disable --quiet "$service.service" 2>/dev/null || true
	done
}
trap release EXIT
if $systemd; then
	for service in $new; do
		systemctl mask --quiet --runtime "$service.service"
	done
fi

echo "setup-kernel: installing$missing"
# shellcheck disable=SC2086  # names, to be split
install $missing || lack "the packages$missing could not be installed; see above (dante is in EPEL on RHEL and its like)"
echo "setup-kernel: done; no service was started"
