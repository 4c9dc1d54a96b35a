#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Installs the packages and kernels that `make test`, `make demo` and `make check` need on a
# fresh Debian 12.
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
. "$here/arch.sh"
series="6.1 6.12"

# Kernel headers of both series. linux-source has the kselftest harness, and the debug kernels
# are built from it, which takes bc, bison, flex, libelf and libssl.
test_packages="
	gcc make libc6-dev pkg-config
	linux-headers-amd64 linux-headers-6.12-amd64 linux-source-6.12
	bc bison flex libelf-dev libssl-dev
	qemu-system-x86 qemu-system-common qemu-utils busybox-static cpio kmod xz-utils procps
	psmisc iproute2
	socat jq gzip python3 gnuplot-nox
	libnbd-dev libnbd-bin libjansson-dev libxxhash-dev libseccomp-dev libgnutls28-dev
	nbdkit nbdkit-plugin-dev clang-14 libclang-rt-14-dev gnutls-bin"
# For another architecture: see foreign.sh.
[ ! "$foreign" ] || test_packages="$test_packages
	gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-system-arm mmdebstrap"
demo_packages=$test_packages
check_packages="$test_packages
	sparse coccinelle cppcheck clang-tidy shellcheck pahole perl g++ python3"

missing_packages()
{
	for package in $(printf '%s\n' "$@" | sort -u); do
		dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null |
			grep -qx installed || printf '%s ' "$package"
	done
}

# missing_kernels - names of the packages with kernels the test VM cannot find
missing_kernels()
{
	for kernel in $series; do
		release=$("$here/kernel.sh" "$kernel" release 2>/dev/null) || {
			echo "linux-image-$kernel"
			continue
		}
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
	mkdir -p "$kernel_dir"
	(cd "$tmp" && apt-get -q download "$1" && dpkg-deb -x ./*.deb tree)
	# Debian 13 and its backports say /usr/lib
	[ ! -d "$tmp/tree/usr/lib/modules" ] || {
		mkdir -p "$tmp/tree/lib"
		mv "$tmp/tree/usr/lib/modules" "$tmp/tree/lib/"
	}
	depmod -b "$tmp/tree" "$release"
	mkdir -p "$kernel_dir/boot" "$kernel_dir/lib/modules"
	mv "$tmp/tree/boot"/* "$kernel_dir/boot/"
	rm -rf "$kernel_dir/lib/modules/$release"
	mv "$tmp/tree/lib/modules/$release" "$kernel_dir/lib/modules/"
	rm -rf "$tmp"
}

[ $# -gt 0 ] || set -- test
wanted=
for set; do
	case $set in
	test) wanted="$wanted $test_packages" ;;
	demo) wanted="$wanted $demo_packages" ;;
	check) wanted="$wanted $check_packages" ;;
	*)
		echo "usage: setup.sh [test|demo|check]..." >&2
		exit 2
		;;
	esac
done

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
	echo "setup: installing $packages"
	apt-get -q update
	updated=y
	# shellcheck disable=SC2086 # a list of words
	apt-get -q install --no-install-recommends -y $packages
fi

if [ "$foreign" ]; then
	"$here/foreign.sh"
	# The kernels of this machine are the other's business.
	series=
fi

# Any user may download a package, so kernels need no root.
for package in $(missing_kernels); do
	[ "$updated" ] || [ "$(id -u)" -ne 0 ] || apt-get -q update
	updated=y
	unpack_kernel "$package"
done

"$here/kernel-source.sh" >/dev/null
