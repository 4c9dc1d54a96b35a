# shellcheck shell=sh disable=SC2034
# SPDX-License-Identifier: GPL-2.0
#
# Sourced: for which architecture things are built and tested, and where they are.
#
# ARCH says it as the kernel does, x86 or arm64. Without it this machine's architecture is
# meant. Another one is built by a cross compiler against a Debian root of that architecture
# in the cache (foreign.sh makes it), and its tests run in a test VM with that root.
#
#	arch		x86 or arm64
#	foreign		y if this machine has another architecture, or empty
#	cache		where kernels, roots and kernel sources are kept
#	kernel_dir	where kernels are that are not installed
#	root		the root directory of the test VM
#	build		where what is built for this architecture goes
#	umig_dir	where umig is
#
# The test VM is told by vm.sh, because there no architecture is foreign.

host_arch=$(uname -m | sed 's/x86_64/x86/; s/aarch64/arm64/')
arch=${ARCH:-$host_arch}
cache=${POSTCOPY_CACHE:-$HOME/.cache/postcopy}
foreign=
kernel_dir=$cache/kernels
root=/
build=build
umig_dir=tools/umig
case $arch in
x86|arm64) ;;
*)
	echo "ARCH=$arch: there is only x86 and arm64" >&2
	exit 2
	;;
esac
if [ "${POSTCOPY_BUILD-}" ]; then
	build=$POSTCOPY_BUILD
	umig_dir=$POSTCOPY_UMIG
	kernel_dir=$POSTCOPY_KERNELS
elif [ "$arch" != "$host_arch" ]; then
	foreign=y
	kernel_dir=$cache/$arch/kernels
	root=$cache/$arch/root
	build=build/$arch
	umig_dir=$build/umig
fi
