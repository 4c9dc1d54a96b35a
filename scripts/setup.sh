#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Installs the packages and kernels that `make test`, `make demo` and `make check` need on a
# fresh Debian 12 or 13. On 13, its backports must be among apt's sources: they have the kernels.
#
# usage: setup.sh [test|demo|check]...	(default: test)
#
# As root it installs the missing packages; otherwise it prints the one line that
# installs them and fails. Kernels are not installed, because the test VM only needs their
# files. They are unpacked into the cache, and the machine's own boot menu and initramfs
# stay as they are. If nothing is missing, this takes a third of a second.

set -eu
export PATH="$PATH:/usr/sbin:/sbin"

here=$(dirname "$0")
# This is about this machine, whatever is built.
unset DEBIAN
. "$here/arch.sh"
. "$here/apt.sh"
# Of this machine's release
series=$(env -u ARCH "$here/kernel.sh" list "$host_debian")
[ "$series" ] || {
	echo "setup: this is not Debian 12 or 13, so its packages are not known here" >&2
	exit 1
}

# headers_of SERIES - the package that brings the headers of its newest release
headers_of()
{
	case $1 in
	6.1) echo linux-headers-amd64 ;;
	6.12) echo linux-headers-6.12-amd64 ;;
	*)
		# One that is here will do.
		dpkg-query -W -f='${Package} ${db:Status-Status}\n' "linux-headers-${1%-rt}.*" 2>/dev/null |
			awk '$2 == "installed" { print $1 }' | grep -Ex "$(headers_pattern "$1" amd64)" |
			sort -V | tail -n 1 | grep . ||
			newest_headers "$1" amd64 env | grep . || echo "linux-headers-$1-unknown"
		;;
	esac
}

# wanted_packages SET... - names of packages
#
# linux-source has the kselftest harness, and the debug kernels are built from it, which takes bc,
# bison, flex, libelf and libssl. A root of debian.sh uses what its machine has of 6.12.
wanted_packages()
{
	for one in $series; do
		headers_of "$one"
	done
	[ "${POSTCOPY_INSIDE-}" ] || echo linux-source-6.12
	[ "$host_debian" = 12 ] || echo linux-source-7.3
	if [ "$host_debian" = 12 ]; then
		echo clang-14 libclang-rt-14-dev
	else
		echo clang libclang-rt-dev zstd hostname mount
	fi
	echo "gcc make libc6-dev pkg-config
		bc bison flex libelf-dev libssl-dev
		qemu-system-x86 qemu-system-common qemu-utils busybox-static cpio kmod xz-utils procps
		psmisc iproute2 mmdebstrap
		socat jq gzip python3 gnuplot-nox
		libnbd-dev libnbd-bin libjansson-dev libxxhash-dev libseccomp-dev libgnutls28-dev
		nbdkit nbdkit-plugin-dev gnutls-bin"
	# For another architecture: see foreign.sh.
	[ ! "$foreign" ] || echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-system-arm
	for set; do
		case $set in
		test|demo) ;;
		check) echo sparse coccinelle cppcheck clang-tidy shellcheck pahole perl g++ ;;
		*)
			echo "usage: setup.sh [test|demo|check]..." >&2
			exit 2
			;;
		esac
	done
}

missing_packages()
{
	for package in $(printf '%s\n' "$@" | sort -u); do
		dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null |
			grep -qx installed || printf '%s ' "$package"
	done
}

# missing_kernels - names of the packages with kernels the test VM cannot find. The headers, which are
# installed, say which release it is.
missing_kernels()
{
	for kernel in $series; do
		release=$("$here/kernel.sh" "$kernel" release)
		"$here/kernel.sh" "$release" image >/dev/null 2>&1 &&
		"$here/kernel.sh" "$release" root >/dev/null 2>&1 ||
			echo "linux-image-$release"
	done
}

unpack_kernel()
{
	release=${1#linux-image-}
	tmp=$(mktemp -d /tmp/postcopy-kernel.XXXXXX)
	# apt downloads as user _apt
	chmod 777 "$tmp"
	echo "setup: unpacking $1 into $kernel_dir"
	# shellcheck disable=SC2046 # a list of words
	(cd "$tmp" && apt-get -q download $(kernel_parts "$release" env) && kernel_unpack tree)
	kernel_keep "$tmp/tree" "$release" "$kernel_dir"
	rm -rf "$tmp"
}

[ $# -gt 0 ] || set -- test
wanted=$(wanted_packages "$@")
# shellcheck disable=SC2086 # a list of words
packages=$(missing_packages $wanted)
updated=
if [ "$packages" ]; then
	if [ "$(id -u)" -ne 0 ]; then
		echo "setup: packages are missing; as root:" >&2
		echo "apt-get update && apt-get install --no-install-recommends -y $packages" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get -q update
	updated=y
	# Names of the newest kernels may be known only now.
	wanted=$(wanted_packages "$@")
	# shellcheck disable=SC2086 # a list of words
	packages=$(missing_packages $wanted)
	case $packages in
	*-unknown*)
		echo "setup: apt knows no headers of some kernel of $here/kernels. They are in the backports:" >&2
		echo "echo deb http://deb.debian.org/debian trixie-backports main > /etc/apt/sources.list.d/backports.list" >&2
		exit 1
		;;
	esac
	# The backports' headers need their linux-base, which apt does not take by itself.
	case $packages in
	*linux-headers-7*) packages="linux-base/trixie-backports $packages" ;;
	esac
	echo "setup: installing $packages"
	# shellcheck disable=SC2086 # a list of words
	apt-get -q install --no-install-recommends -y $packages
fi

if [ "$foreign" ]; then
	"$here/foreign.sh"
	# The kernels of this machine are the other's business.
	series=
fi

# Any user may download a package, so kernels need no root.
packages=$(missing_kernels)
for package in $packages; do
	[ "$updated" ] || [ "$(id -u)" -ne 0 ] || apt-get -q update
	updated=y
	unpack_kernel "$package"
done

[ "${POSTCOPY_INSIDE-}" ] || "$here/kernel-source.sh" >/dev/null
