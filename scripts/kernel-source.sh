#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Prints a directory with files of the kernel source that tests and checks need and
# that Debian's header packages leave out: the kselftest harness, checkpatch,
# coccicheck. The first call takes them out of the source package.

set -eu

tar=/usr/src/linux-source-6.12.tar.xz
cache=${POSTCOPY_CACHE:-$HOME/.cache/postcopy}
dir=$cache/linux-source-6.12

# The last one tells that the others are there.
files="
scripts/checkpatch.pl
scripts/coccicheck
scripts/coccinelle
scripts/const_structs.checkpatch
scripts/kernel-doc
scripts/spelling.txt
tools/testing/selftests/kselftest.h
tools/testing/selftests/kselftest_harness.h
"

if [ ! -e "$dir/tools/testing/selftests/kselftest_harness.h" ]; then
	[ -e "$tar" ] || {
		echo "kernel-source.sh: no $tar: run scripts/setup.sh" >&2
		exit 1
	}
	tmp=$(mktemp -d "${TMPDIR:-/tmp}/postcopy-source.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	mkdir -p "$dir"
	# shellcheck disable=SC2086,SC2046 # lists of words
	tar -xJf "$tar" -C "$tmp" $(printf 'linux-source-6.12/%s ' $files)
	cp -a "$tmp/linux-source-6.12/." "$dir/"
fi
echo "$dir"
