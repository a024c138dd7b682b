#!/bin/sh
# Builds OpenSSL's FIPS provider for tests, as root: `sh tools/setup-fips.sh [DIR]`, by default into /usr/local/lib/openssl-fips.
#
# Debian 12 has no FIPS provider. It is built here from the upstream archive of the distribution's source package, whose
# checksum apt verifies, and used by the distribution's own libcrypto. The result is not validated: no certificate names it.
# The machine's OpenSSL and its configuration stay as they are. DIR gets:
#
#   fips.so          the provider
#   fipsmodule.cnf   its checksum, written by `openssl fipsinstall`, which runs its self-test
#   openssl.cnf      for OPENSSL_CONF: the providers fips and base, and the default property query fips=yes
#
# RHEL and its like have a provider; nothing is built there.
set -eu

target=${1:-/usr/local/lib/openssl-fips}

lack() {
	echo "setup: $1" >&2
	exit 3
}

if [ -e "$target/openssl.cnf" ]; then
	echo "setup: $target has the FIPS provider"
	exit 0
fi
command -v openssl >/dev/null || lack "openssl is missing; run: sudo make setup-kernel"
if ! command -v apt-get >/dev/null; then
	echo "setup: nothing is built where dnf is: the package openssl-libs has a FIPS provider"
	exit 0
fi
[ "$(id -u)" = 0 ] || lack "only root can write $target; run: sudo make setup-fips"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/parts" "$folder/lists/partial" "$folder/source"

# the same archives as for binary packages, asked for sources; apt's own lists stay as they are
for file in /etc/apt/sources.list.d/*.sources; do
	[ ! -e "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$folder/parts/${file##*/}"
done
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
	[ ! -e "$file" ] || sed -n 's/^deb[[:space:]]/deb-src /p' "$file" >"$folder/parts/${file##*/}.list"
done
set -- -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$folder/parts" -o Dir::State::Lists="$folder/lists" \
	-o APT::Sandbox::User=root
apt-get "$@" --quiet=2 update || lack "the lists of source packages could not be fetched; see above"
(cd "$folder/source" && apt-get "$@" --quiet=2 source --download-only --tar-only openssl >/dev/null) ||
	lack "the source package openssl could not be fetched; see above"
archive=$(find "$folder/source" -name 'openssl_*.orig.tar.*' ! -name '*.asc')
[ -n "$archive" ] || lack "the source package openssl has no upstream archive"

missing=
for package in gcc libc6-dev make perl; do
	dpkg-query --show --showformat '${db:Status-Abbrev}' $package 2>/dev/null | grep -q '^ii' || missing="$missing $package"
done
if [ -n "$missing" ]; then
	apt-get update --quiet=2
	# shellcheck disable=SC2086  # names, to be split
	DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --no-install-recommends $missing || lack "$missing could not be installed"
fi

tar --extract --file "$archive" --directory "$folder/source" --strip-components=1
cd "$folder/source"
version=$(sed -n 's/^\(MAJOR\|MINOR\|PATCH\)=//p' VERSION.dat | paste -sd.)
echo "setup: building the FIPS provider of OpenSSL $version"
{
	./Configure enable-fips no-tests
	make --silent build_generated
	make --silent --jobs="$(nproc)" providers/fips.so
} >"$folder/log" 2>&1 || {
	tail -n 20 "$folder/log" >&2
	lack "the FIPS provider could not be built; see above"
}

new=$folder/new
mkdir -m 755 "$new"
install -m 644 providers/fips.so "$new/fips.so"
strip --strip-unneeded "$new/fips.so"
openssl fipsinstall -quiet -module "$new/fips.so" -out "$new/fipsmodule.cnf" || lack "the FIPS provider fails its self-test"
chmod 644 "$new/fipsmodule.cnf"
cat >"$new/openssl.cnf" <<END
# Written by tools/setup-fips.sh. Only algorithms approved by FIPS 140-3 are fetched, from a provider that is not validated.
config_diagnostics = 1
openssl_conf = settings

[settings]
providers = providers
alg_section = algorithms

[providers]
fips = fips_sect
base = base_sect

[base_sect]
activate = 1

[algorithms]
default_properties = fips=yes

.include $target/fipsmodule.cnf

[fips_sect]
module = $target/fips.so
END
mkdir -p "${target%/*}"
mv "$new" "$target"
OPENSSL_CONF=$target/openssl.cnf openssl list -providers || lack "the FIPS provider cannot be loaded"
echo "setup: $target has the FIPS provider of OpenSSL $version"
