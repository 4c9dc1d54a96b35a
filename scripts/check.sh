#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Static checks. Each prints only its findings; any finding fails. Each check that is
# switched off has its reason beside it.
#
# usage: check.sh [NAME]...	only these, e.g. checkpatch shellcheck

set -u
cd "$(dirname "$0")/.." || exit 1

source=$(scripts/kernel-source.sh) || exit 1
kernels="6.1 6.12"
kernel_files=$(git ls-files 'drivers/*.[ch]' 'include/*.h')
tool_files=$(git ls-files 'tools/umig/*.[ch]')
test_files=$(git ls-files 'selftests/*.[ch]')
uapi=include/uapi/linux/postcopy.h
log=$(mktemp -d /tmp/postcopy-check.XXXXXX)
trap 'rm -rf "$log"' EXIT

# Both compilers' view: gcc with W=1 (and -Werror, see Makefile), sparse with C=2.
check_build()
{
	local kernel build

	for kernel in $kernels; do
		build=$(scripts/kernel.sh "$kernel" build) || return
		# In a tree of its own, because C=2 checks only files that it compiles.
		rm -rf "build/check/$kernel"
		mkdir -p "build/check/$kernel"
		cp -rs "$PWD/Kbuild" "$PWD/drivers" "$PWD/include" "build/check/$kernel/"
		make -C "$build" M="$PWD/build/check/$kernel" W=1 C=2 \
			CHECK="sparse" CF="-D__CHECK_ENDIAN__" modules 2>&1 |
			grep -E 'warning:|WARNING:|error:|Error ' |
			# Findings in the kernel's own headers are not for this project to mend.
			grep -vE '^(/usr/src/|/usr/lib/|\./|\.\./|include/|arch/)'
	done
}

# FILE_PATH_CHANGES, COMMIT_MESSAGE: they are about patches to the kernel tree.
# LINUX_VERSION_CODE, CONSTANT_COMPARISON: compat.h exists for nothing else, and
# KERNEL_VERSION() on the right looks like a constant on the left.
# BIT_MACRO: 1UL << 20 is a size here, and user space has no BIT().
# MACRO_ARG_REUSE, MACRO_ARG_PRECEDENCE: our macros' arguments are names.
# UNCOMMENTED_DEFINITION: the fields stand in groups under the lock that covers them.
checkpatch_ignore=FILE_PATH_CHANGES,COMMIT_MESSAGE,LINUX_VERSION_CODE,CONSTANT_COMPARISON
checkpatch_ignore=$checkpatch_ignore,BIT_MACRO,MACRO_ARG_REUSE,MACRO_ARG_PRECEDENCE
checkpatch_ignore=$checkpatch_ignore,UNCOMMENTED_DEFINITION

# In user space there are no kernel helpers (ARRAY_SIZE, PREFER_*, *_KSTRTO, STR*CPY,
# USLEEP_RANGE), libraries have names of their own (CAMELCASE, NEW_TYPEDEFS), shared
# flags are volatile, harness macros look like what they are not (COMPLEX_MACRO,
# MACRO_ARG_REUSE, BRACES, MULTISTATEMENT_MACRO_*), and ENOSYS is an answer one gets.
checkpatch_ignore_user=$checkpatch_ignore,PREFER_KERNEL_TYPES,PREFER_FALLTHROUGH
checkpatch_ignore_user=$checkpatch_ignore_user,PREFER_DEFINED_ATTRIBUTE_MACRO,ARRAY_SIZE
checkpatch_ignore_user=$checkpatch_ignore_user,SSCANF_TO_KSTRTO,CONSIDER_KSTRTO,STRCPY,STRNCPY
checkpatch_ignore_user=$checkpatch_ignore_user,STRLCPY,USLEEP_RANGE,CAMELCASE,NEW_TYPEDEFS
checkpatch_ignore_user=$checkpatch_ignore_user,VOLATILE,COMPLEX_MACRO,MACRO_ARG_REUSE,BRACES
checkpatch_ignore_user=$checkpatch_ignore_user,ENOSYS,MULTISTATEMENT_MACRO_USE_DO_WHILE

# run_checkpatch IGNORE FILE...
run_checkpatch()
{
	local ignore=$1

	shift
	perl "$source/scripts/checkpatch.pl" --no-tree --strict --terse --show-types \
		--no-summary --max-line-length=100 --ignore "$ignore" --file "$@" 2>&1 |
		grep -vE '^(total:|$)'
}

check_checkpatch()
{
	# shellcheck disable=SC2086,SC2046 # a list of files
	run_checkpatch "$checkpatch_ignore" $(printf '%s\n' $kernel_files | grep -v /trace.h)
	# Tracepoints look like no other code, in the kernel's own headers too.
	run_checkpatch "$checkpatch_ignore,OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT,SPACING" \
		drivers/postcopy/trace.h
	# shellcheck disable=SC2086 # a list of files
	run_checkpatch "$checkpatch_ignore_user" $test_files $tool_files
}

# The semantic patches that make sense for a module outside the tree.
check_coccinelle()
{
	local script

	for script in "$source"/scripts/coccinelle/{free,iterators,locks,null}/*.cocci \
		      "$source"/scripts/coccinelle/misc/{doubleinit,returnvar,semicolon}.cocci; do
		[ -e "$script" ] || continue
		spatch --very-quiet -D report --no-show-diff --include-headers \
			--cocci-file "$script" --dir drivers/postcopy 2>/dev/null |
			grep -E '^(drivers|/).*:[0-9]+'
	done
}

# run_cppcheck OPTION|FILE...
run_cppcheck()
{
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
		--suppress=missingIncludeSystem --suppress=unmatchedSuppression \
		--template='{file}:{line}: {severity}: {message} [{id}]' -I include/uapi "$@" 2>&1
}

# uninitvar: cppcheck does not know list_for_each_entry(), and gcc looks for these too.
# arithOperationsOnVoidPointer: the kernel is written in GNU C.
check_cppcheck()
{
	# shellcheck disable=SC2086 # a list of files
	run_cppcheck -D__KERNEL__ --suppress=uninitvar \
		--suppress=arithOperationsOnVoidPointer $kernel_files
	# The kselftest harness is beyond it.
	# shellcheck disable=SC2086 # a list of files
	run_cppcheck -I tools/umig $tool_files \
		selftests/qemu/init.c selftests/qemu/kvm_hold.c selftests/guest/*.c
}

# bugprone-easily-swappable-parameters: most functions of (offset, length).
# bugprone-reserved-identifier: _GNU_SOURCE. bugprone-assignment-in-if-condition: kernel
# style allows it where it is clear. *-DeprecatedOrUnsafeBufferHandling: C11 Annex K,
# which glibc does not have; *.strcpy: the compiler sees overflows of what has a size.
# suspicious-string-compare: kernel style says if (strcmp()). narrowing and widening:
# sizes are 64 bits here, and counts are small.
clang_tidy_checks='-*,bugprone-*,clang-analyzer-*,-bugprone-easily-swappable-parameters'
clang_tidy_checks+=',-bugprone-reserved-identifier,-bugprone-assignment-in-if-condition'
clang_tidy_checks+=',-bugprone-narrowing-conversions,-bugprone-suspicious-string-compare'
clang_tidy_checks+=',-bugprone-implicit-widening-of-multiplication-result'
clang_tidy_checks+=',-clang-analyzer-security.insecureAPI.strcpy'
clang_tidy_checks+=',-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling'

check_clang_tidy()
{
	local file

	for file in $(git ls-files 'tools/umig/*.c' | grep -v /plugin.c); do
		clang-tidy --quiet --checks="$clang_tidy_checks" "$file" -- -std=gnu11 -D_GNU_SOURCE -Iinclude/uapi -Itools/umig \
			'-DUMIG_LIB_DIR="/usr"' 2>/dev/null | grep -E '(warning|error):'
	done
}

check_shellcheck()
{
	local file scripts=

	for file in $(git ls-files); do
		# shellcheck disable=SC2016
		if [ -f "$file" ] && head -n 2 "$file" | grep -qE '^#!.*\b(ba)?sh|^# shellcheck shell='; then
			scripts="$scripts $file"
		fi
	done
	# SC2317: functions that are called by a name in a variable.
	# SC1091, SC2154: sourced files are checked by themselves. They begin with "# shellcheck shell=".
	# shellcheck disable=SC2086 # a list of files
	shellcheck --exclude=SC2317,SC1091,SC2154 --format=gcc $scripts
}

# The header alone, as a VMM in C or C++ includes it.
check_uapi()
{
	local flags='-Wall -Wextra -Wpedantic -Werror -fsyntax-only -I include/uapi'

	# shellcheck disable=SC2086
	echo '#include <linux/postcopy.h>' | gcc -std=c99 $flags -x c - 2>&1
	# shellcheck disable=SC2086
	echo '#include <linux/postcopy.h>' | g++ -std=c++11 $flags -x c++ - 2>&1
	# The same layout for 32-bit programs: __aligned_u64 wherever there are 64 bits
	grep -nE '^[[:space:]]+(__u64|__s64|long|unsigned long|size_t|void \*)[[:space:]]' $uapi
}

# A hole in a struct would carry a piece of kernel stack to user space.
check_holes()
{
	local structs name

	structs=$(sed -n 's/^struct \(postcopy_[a-z_]*\) {$/\1/p' $uapi)
	{
		echo '#include <linux/postcopy.h>'
		for name in $structs; do
			echo "struct $name variable_$name;"
		done
	} > "$log/holes.c"
	gcc -g -I include/uapi -c -o "$log/holes.o" "$log/holes.c" || return
	for name in $structs; do
		pahole -C "$name" "$log/holes.o" 2>/dev/null | grep -nE 'XXX|padding:|holes:' |
			sed "s/^/struct $name: /"
	done
}

check_kernel_doc()
{
	# shellcheck disable=SC2086
	perl "$source/scripts/kernel-doc" -none -Werror $kernel_files 2>&1
}

# A room of tools/umig includes only itself and the rooms below it; the Makefile lists them
# from the top.
check_rooms()
{
	# shellcheck disable=SC2086 # a list of files
	awk -v rooms="$(sed -n 's/^ROOMS.*:= //p' tools/umig/Makefile)" '
	BEGIN {
		n = split(rooms, room, " ")
		for (i = 1; i <= n; i++)
			floor[room[i]] = i
	}
	FNR == 1 { split(FILENAME, path, "/") }
	/^#include "/ && path[3] in floor {
		split($2, name, "[\"/]")
		if (!(name[2] in floor))
			printf "%s:%d: %s names no room\n", FILENAME, FNR, $2
		else if (floor[name[2]] < floor[path[3]])
			printf "%s:%d: %s is above %s\n", FILENAME, FNR, name[2], path[3]
	}' $tool_files
}

all="rooms build checkpatch coccinelle cppcheck clang_tidy shellcheck uapi holes kernel_doc"
# shellcheck disable=SC2086 # a list of words
[ $# -gt 0 ] || set -- $all
failed=
for name; do
	if [ "$(type -t "check_$name")" != function ]; then
		echo "check.sh: no check $name (there are: $all)" >&2
		exit 2
	fi
	"check_$name" > "$log/out" 2>&1
	if [ -s "$log/out" ]; then
		echo "$name: $(wc -l < "$log/out") findings"
		sed 's/^/  /' "$log/out"
		failed="$failed $name"
	else
		echo "$name: clean"
	fi
done
if [ "$failed" ]; then
	echo "check: findings in$failed"
	exit 1
fi
echo "check: all clean"
