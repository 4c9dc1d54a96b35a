# shellcheck shell=sh disable=SC2034
# SPDX-License-Identifier: GPL-2.0
#
# Sourced: for which architecture and Debian release things are built and tested, and where they
# are.
#
# ARCH says it as the kernel does, x86 or arm64. Without it this machine's architecture is
# meant. Another one is built by a cross compiler against a Debian root of that architecture
# in the cache (foreign.sh makes it), and its tests run in a test VM with that root.
#
# DEBIAN says the release, 12 or 13. Without it this machine's is meant, whatever that is. For another
# one things are built in a root of that release in the cache, which debian.sh makes and enters, and
# tests run in a test VM with that root. scripts/kernels says which kernels need which release.
#
#	arch		x86 or arm64
#	debian		12 or 13, or empty: this machine's
#	foreign		y if this machine has another architecture, or empty
#	enter		the command to run things in the root of another release, or empty
#	cache		where kernels, roots and kernel sources are kept
#	kernel_dir	where kernels are that are not installed
#	root		the root directory of the test VM
#	build		where what is built for this architecture goes
#	umig_dir	where umig is
#
# The test VM is told by vm.sh, and what runs in another root by debian.sh: there nothing is foreign.

host_arch=$(uname -m | sed 's/x86_64/x86/; s/aarch64/arm64/')
arch=${ARCH:-$host_arch}
cache=${POSTCOPY_CACHE:-$HOME/.cache/postcopy}
# shellcheck source=/dev/null
host_debian=$(. /etc/os-release 2>/dev/null && [ "$ID" = debian ] && echo "$VERSION_ID") || :
debian=${DEBIAN:-$host_debian}
foreign=
enter=
kernel_dir=$cache/kernels
root=/
case $arch in
x86|arm64) ;;
*)
	echo "ARCH=$arch: there is only x86 and arm64" >&2
	exit 2
	;;
esac
case $debian in
"$host_debian"|12|13) ;;
*)
	echo "DEBIAN=$debian: there is only 12 and 13" >&2
	exit 2
	;;
esac
# Directories of another release or architecture have names that say so. debian.sh tells what runs in
# its root that this is such a directory.
other=
if [ "${POSTCOPY_BUILD-}" ]; then
	build=$POSTCOPY_BUILD
	umig_dir=$POSTCOPY_UMIG
	kernel_dir=$POSTCOPY_KERNELS
else
	[ "$debian" = "$host_debian" ] || enter=scripts/debian.sh
	[ ! "$enter${POSTCOPY_INSIDE-}" ] || other=debian$debian
	if [ "$arch" != "$host_arch" ]; then
		foreign=y
		other=${other:+$other/}$arch
		kernel_dir=$cache/$other/kernels
	fi
	[ ! "$enter$foreign" ] || root=$cache/$other/root
	build=build${other:+/$other}
	umig_dir=tools/umig
	[ ! "$other" ] || umig_dir=$build/umig
fi
