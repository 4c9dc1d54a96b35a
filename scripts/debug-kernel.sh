#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds a small kernel for tests out of Debian's linux-source-6.12, outside this tree. Prints
# the directory that has its image and is the kernel tree for modules.
#
# usage: [ARCH=arm64] debug-kernel.sh debug|debug-7.3|kcsan
#	debug	KASAN, UBSAN, lockdep, DEBUG_VM, PAGE_TABLE_CHECK, kmemleak, fault
#		injection, gcov (for the module only)
#	debug-7.3	the same of linux-source-7.3, built in the root of Debian 13
#	kcsan	KCSAN, which cannot be combined with KASAN
#
# The configurations are in kernel-config/. The directory's name has a hash of source,
# configuration and compiler. If any of them changes, there is a new build, and older ones
# of the same name are removed.

set -euo pipefail
cd "$(dirname "$0")"

name=${1-}
case $name in
debug|kcsan) series=6.12 ;;
debug-*) series=${name#debug-} ;;
*)
	echo "usage: debug-kernel.sh debug|debug-7.3|kcsan" >&2
	exit 2
	;;
esac

# shellcheck source=scripts/arch.sh
. ./arch.sh
[ ! "$enter" ] || exec ./debian.sh scripts/debug-kernel.sh "$name"
case $arch in
x86) make=(make ARCH=x86_64) image=bzImage ;;
arm64) make=(make ARCH=arm64) image=Image ;;
esac
compiler=gcc
if [ "$foreign" ]; then
	compiler=aarch64-linux-gnu-gcc
	make+=(CROSS_COMPILE=aarch64-linux-gnu-)
fi

tar=/usr/src/linux-source-$series.tar.xz
[ -e "$tar" ] || {
	echo "debug-kernel.sh: no $tar: run scripts/setup.sh" >&2
	exit 1
}

fragments=(kernel-config/base.config "kernel-config/$series.config" "kernel-config/$arch.config" "kernel-config/${name%-"$series"}.config")
source_id=$(stat -c '%s-%Y' "$tar")
key=$({
	echo "$source_id"
	"$compiler" --version | head -n 1
	# A change of a comment is no reason for a new build.
	sed '/^#/d; /^$/d' "${fragments[@]}"
} | sha256sum | cut -c 1-12)
source=$cache/source-$series-$source_id
builds=$cache${foreign:+/$arch}
build=$builds/kernel-$name-$key

if [ -e "$build/complete" ]; then
	echo "$build"
	exit 0
fi

# One at a time: two would write to the same directory.
mkdir -p "$builds"
exec 9> "$cache/debug-kernel.lock"
flock 9

# Documentation is not built but Kconfig asks for its Kconfig.
if [ ! -e "$source/complete" ]; then
	echo "debug-kernel.sh: unpacking $tar" >&2
	rm -rf "$source"
	mkdir -p "$source"
	tar -xJf "$tar" --strip-components=1 -C "$source" --exclude='*/Documentation/*/*' \
		--exclude='*/Documentation/*.rst'
	touch "$source/complete"
fi

if [ ! -e "$build/complete" ]; then
	echo "debug-kernel.sh: building the $name kernel for $arch in $build" >&2
	find "$builds" -maxdepth 1 -name "kernel-$name-????????????" -exec rm -rf {} +
	mkdir -p "$build"
	cat "${fragments[@]}" > "$build/fragment"
	echo "CONFIG_LOCALVERSION=\"-$name\"" >> "$build/fragment"
	(
		"${make[@]}" -C "$source" O="$build" \
			KCONFIG_ALLCONFIG="$build/fragment" allnoconfig
		# No test would notice an option that a dependency has switched off.
		while IFS= read -r line; do
			case $line in
			CONFIG_*=n) grep -q "^${line%=n}=" "$build/.config" && echo "not off: $line" ;;
			CONFIG_*) grep -qxF "$line" "$build/.config" || echo "not on: $line" ;;
			esac
		done < "$build/fragment" > "$build/unmet"
		if [ -s "$build/unmet" ]; then
			cat "$build/unmet"
			exit 1
		fi
		"${make[@]}" -C "$source" O="$build" -j "$(nproc)" "$image" modules
	) > "$build/log" 2>&1 || {
		tail -n 30 "$build/log" >&2
		echo "debug-kernel.sh: the $name kernel does not build, see $build/log" >&2
		exit 1
	}
	touch "$build/complete"
fi
echo "$build"
