#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Where the parts of a kernel are on this machine.
#
# usage: kernel.sh KERNEL WORD
#	KERNEL	one of the file kernels (the newest build of that series that is
#		here), a full release name, the path of a bzImage, or debug,
#		debug-7.3, kcsan, which debug-kernel.sh builds if need be; or
#		guest, the oldest one that is here, for the guests of scenarios
#	WORD	debian		the Debian release that it is built and tested with, or
#				nothing: this machine's
#		release		e.g. 6.1.0-56-amd64
#		build		the directory that modules are built against
#		image		the bzImage
#		root		the directory in which lib/modules/RELEASE has the
#				kernel's own modules
#    or: kernel.sh list [DEBIAN]	the kernels of the file kernels for this architecture
#
# This also looks for kernels in the cache that setup.sh fills.

set -eu

. "$(dirname "$0")/arch.sh"

die()
{
	echo "kernel.sh: $*" >&2
	exit 1
}

# The setup header of a bzImage points to its version string.
image_release()
{
	magic=$(dd if="$1" bs=1 skip=514 count=4 2>/dev/null)
	[ "$magic" = HdrS ] || die "$1 is no bzImage"
	at=$(($(od -An -tu2 -j 526 -N 2 "$1") + 512))
	dd if="$1" bs=1 skip="$at" count=128 2>/dev/null |
		tr '\0' '\n' | head -n 1 | cut -d' ' -f1
}

# Where kernels are. What is installed here is of this machine's architecture.
places=$kernel_dir
[ "$foreign" ] || places="$root $kernel_dir"

# newest SERIES[-FLAVOUR] - without a flavour it is the usual kernel
newest()
{
	flavour=
	case $1 in
	*-16k|*-rt) flavour=-${1##*-} ;;
	esac
	for place in $places; do
		for dir in "${place%/}/lib/modules/$1" "${place%/}/lib/modules/${1%"$flavour"}".*; do
			name=${dir##*/}
			[ -e "$dir" ] || continue
			case $name in
			"$1") ;;
			*-16k|*-rt-*|*-cloud-*)
				[ "$flavour" ] || continue
				case $name in
				*"$flavour"|*"$flavour"-*) ;;
				*) continue ;;
				esac
				;;
			*) [ ! "$flavour" ] || continue ;;
			esac
			echo "$name"
		done
	done | sort -V | tail -n 1
}

if [ "${1-}" = list ]; then
	awk -v debian="${2-}" -v arch="$arch" '!/^#/ && (debian == "" || $2 == debian) {
		for (i = 3; i <= NF; i++)
			if ($i == arch)
				print $1
	}' "$(dirname "$0")/kernels"
	exit
fi
[ $# -eq 2 ] || die "usage: kernel.sh KERNEL debian|release|build|image|root"

if [ "$2" = debian ]; then
	awk -v kernel="$1" '$1 == kernel { print $2 }' "$(dirname "$0")/kernels"
	exit
fi

case $1 in
debug|debug-*|kcsan)
	dir=$("$(dirname "$0")/debug-kernel.sh" "$1") || exit
	case $arch in
	x86) image=$dir/arch/x86/boot/bzImage ;;
	arm64) image=$dir/arch/arm64/boot/Image ;;
	esac
	case $2 in
	release) cat "$dir/include/config/kernel.release" ;;
	build) echo "$dir" ;;
	image) echo "$image" ;;
	root) die "the $1 kernel has no modules" ;;
	*) die "unknown word $2" ;;
	esac
	exit
	;;
esac

if [ "$1" = guest ]; then
	for kernel in $("$0" list); do
		if release=$("$0" "$kernel" release 2>/dev/null) &&
		   "$0" "$release" image >/dev/null 2>&1; then
			exec "$0" "$release" "$2"
		fi
	done
	die "no kernel here: run scripts/setup.sh"
fi

if [ -f "$1" ]; then
	image=$1
	release=$(image_release "$1")
else
	release=$(newest "$1")
	[ "$release" ] || die "no kernel $1 here: run scripts/setup.sh"
	image=
fi

case $2 in
release)
	echo "$release"
	;;
build)
	for place in $places; do
		if [ -e "${place%/}/lib/modules/$release/build/Makefile" ]; then
			echo "${place%/}/lib/modules/$release/build"
			exit 0
		fi
	done
	die "no headers of $release: run scripts/setup.sh"
	;;
image)
	[ ! "$image" ] || { echo "$image"; exit 0; }
	for place in $places; do
		# Newer packages have it beside the modules.
		for file in "${place%/}/boot/vmlinuz-$release" \
			    "${place%/}/lib/modules/$release/vmlinuz"; do
			[ ! -r "$file" ] || { echo "$file"; exit 0; }
		done
	done
	die "no kernel image of $release: run scripts/setup.sh"
	;;
root)
	for dir in $places; do
		# dkms runs depmod, too, where only the headers are installed.
		if [ -e "$dir/lib/modules/$release/modules.dep.bin" ] &&
		   [ -d "$dir/lib/modules/$release/kernel" ]; then
			echo "$dir"
			exit 0
		fi
	done
	die "no modules of $release: run scripts/setup.sh"
	;;
*)
	die "unknown word $2"
	;;
esac
