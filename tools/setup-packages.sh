#!/bin/sh
# Installs the system packages that are needed besides Python, as root: `sh tools/setup-packages.sh kernel|image|datacenter|sessions …`
#
#   kernel    the kernel world, the firewall and their tests: `make setup-kernel`
#   image     building, checking and flashing images, and their tests: `make setup-image`
#   datacenter  tests of the data center with PostgreSQL, of its pages in a browser, of its metrics and notices: `make setup-datacenter`
#   sessions  remote sessions: VNC and RDP servers and clients, the web server of the local page: `make setup-sessions`
#
# Only missing packages are installed. Labs start their own squid and dante inside namespaces, but these packages start
# services of the machine. A newly installed service is therefore not started, and is disabled; a service that existed
# before is left unchanged.
#
# libreswan, the VPN software of the box, conflicts with strongSwan, which alone works without a kernel's ESP. On Debian,
# where only its parsers are needed, it is therefore unpacked into /usr/local/lib/libreswan and not installed.
#
# squid-openssl is Debian's squid built with OpenSSL, which is required to inspect TLS; it replaces the package
# squid, with the same program, helpers and configuration. RHEL's squid is built with OpenSSL.
set -eu

DEBIAN_kernel="dnsmasq-base udhcpc firewalld dbus-daemon nftables libnftables1 iproute2 conntrack tcpdump squid-openssl dante-server dante-client haproxy
	openssl util-linux mount e2fsprogs postgresql openvpn strongswan-charon strongswan-swanctl libcharon-extra-plugins strongswan-pki
	libstrongswan-standard-plugins python3-cryptography"
REDHAT_kernel="dnsmasq firewalld dbus-daemon nftables iproute conntrack-tools tcpdump squid dante-server dante haproxy openssl util-linux
	e2fsprogs postgresql-server openvpn strongswan"
DEBIAN_image="aide libnss3 libunbound8 rpm createrepo-c dnf cpio systemd udev apache2 gcc libc6-dev bmap-tools fdisk zstd openssl cryptsetup-bin
	dosfstools xfsprogs btrfs-progs qemu-system-x86 ovmf xorriso mtools isolinux syslinux-common grub-efi-amd64-bin
	grub-pc-bin squashfs-tools openscap-scanner ssg-nondebian swtpm tpm2-openssl libtss2-tcti-swtpm0
	clevis clevis-luks clevis-tpm2 tpm2-tools ostree casync"
REDHAT_image="aide rpm-build createrepo_c dnf cpio systemd httpd mod_ssl gcc python3.11-devel bmap-tools zstd openssl cryptsetup
	dosfstools xfsprogs qemu-kvm edk2-ovmf xorriso mtools syslinux grub2-efi-x64-modules grub2-pc-modules squashfs-tools
	openscap-scanner scap-security-guide libreswan swtpm tpm2-openssl clevis clevis-luks tpm2-tools"
DEBIAN_datacenter="rsyslog rsyslog-gnutls softhsm2 postgresql chromium prometheus prometheus-alertmanager"
REDHAT_datacenter="softhsm postgresql-server chromium golang-github-prometheus golang-github-prometheus-alertmanager"
DEBIAN_sessions="tigervnc-standalone-server freerdp2-x11 freerdp2-shadow-x11 xdotool novnc chromium apache2 curl gettext"
REDHAT_sessions="tigervnc-server-minimal freerdp freerdp-server xdotool novnc chromium httpd mod_ssl curl gettext"
SERVICES="strongswan-starter strongswan haproxy openvpn squid danted sockd firewalld apache2 postgresql prometheus prometheus-alertmanager"

lack() {
	echo "setup: $1" >&2
	exit 3
}

is_new() { ! command -v "$1" >/dev/null 2>&1 && ! [ -e "/usr/sbin/$1" ]; }

[ "$(uname -s)" = Linux ] || lack "all this runs on Linux only"
[ "$(id -u)" = 0 ] || lack "only root can install packages; run: sudo make setup-kernel setup-image setup-datacenter setup-sessions"

chosen() {
	for set in "$@"; do
		eval "echo \$$FAMILY$set"
	done
}

if command -v apt-get >/dev/null; then
	installed() { [ "$(dpkg-query --show --showformat '${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]; }
	# RUNLEVEL=1: sysvinit's invoke-rc.d starts only services of single-user mode
	install() {
		apt-get update --quiet=2
		RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --no-install-recommends "$@"
	}
	FAMILY=DEBIAN_
elif command -v dnf >/dev/null; then
	installed() { rpm --query --quiet "$1"; }
	install() { dnf install --quiet --assumeyes "$@"; }
	FAMILY=REDHAT_
else
	FAMILY=DEBIAN_
	lack "knows apt-get and dnf only; install by hand: $(chosen "$@")"
fi

unpack_libreswan() {
	folder=/usr/local/lib/libreswan
	[ ! -e "$folder" ] || return 0
	temporary=$(mktemp -d)
	chmod 755 "$temporary"
	apt-get update --quiet=2 &&
		(cd "$temporary" && apt-get download --quiet=2 libreswan && dpkg-deb --extract libreswan_*.deb files) &&
		mv "$temporary/files" "$folder" &&
		rm -r "$temporary"
}

case "$FAMILY $*" in DEBIAN_*image*) unpack_libreswan || lack "libreswan could not be unpacked; see above" ;; esac

PACKAGES=$(chosen "$@")
missing=
for package in $PACKAGES; do
	installed "$package" || missing="$missing $package"
done
if [ -z "$missing" ]; then
	echo "setup: all packages are installed"
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

echo "setup: installing$missing"
# shellcheck disable=SC2086  # names, to be split
install $missing || lack "the packages$missing could not be installed; see above (dante and chromium are in EPEL on RHEL and its like)"
echo "setup: done; no service was started"
