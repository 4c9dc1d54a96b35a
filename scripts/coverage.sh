#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Shows which lines and branches of the module the test programs reach. It builds the module
# with gcov, which the debug kernel has for the module alone, runs the programs in a test VM,
# and prints a table by file and the lines that were not reached.
#
# usage: coverage.sh [NAME]...	(default: all test programs)

set -euo pipefail
cd "$(dirname "$0")/.."

out=$PWD/build/coverage
module=build/debug/drivers/postcopy

if [ $# -eq 0 ]; then
	make -s selftests
	mapfile -t names < <(basename -a -s _test build/selftests/*_test)
	set -- "${names[@]}"
fi

# gcov would count the sanitizers' own branches.
rm -rf "$module" "$out"
mkdir -p "$out"
make -s modules KERNEL=debug \
	KBUILD='GCOV_PROFILE=y KASAN_SANITIZE=n UBSAN_SANITIZE=n' > "$out/build.log" 2>&1

# run.sh unloads the module; gcov keeps the counts.
# shellcheck disable=SC2016 # $1 is the inner shell's
selftests/qemu/vm.sh --kernel debug --mem 1536M --timeout 3000 --nodes 2 \
	--out "$out" -- bash -c '
		module=$1
		shift
		env TIMEOUT=400 STRESS_SECONDS=${STRESS_SECONDS:-60} selftests/run.sh "$module" "$@"
		cd /sys/kernel/debug/gcov && find . -name "*.gcda" |
			while read -r file; do
				cat "$file" > "/out/$(basename "$file")"
			done' \
	run "$module/postcopy.ko" "$@" > "$out/tests.log" 2>&1 || true
grep '^not ok' "$out/tests.log" || true

for file in "$module"/*.gcno; do
	cp "$file" "$out/"
done
cd "$out"
rm -f -- *.mod.gcno
for file in *.gcda; do
	gcov --branch-probabilities "$file"
done > gcov.log 2>/dev/null

printf '%-14s %8s %10s %8s\n' file lines branches missed
for file in ../../drivers/postcopy/*.c; do
	name=$(basename "$file").gcov
	[ -e "$name" ] || {
		printf '%-14s %8s\n' "${name%.gcov}" 'none'
		continue
	}
	awk -v name="${name%.gcov}" '
	/^ *[0-9]+\*?:/ { lines++; hit++ }
	/^ *(#####|=====):/ { lines++ }
	/^branch .* taken [1-9]/ { branches++; taken++; next }
	/^branch / { branches++ }
	END {
		printf "%-14s %7.1f%% %9.1f%% %8d\n", name, lines ? 100 * hit / lines : 100,
			branches ? 100 * taken / branches : 100, lines - hit
	}' "$name"
done
echo
echo 'Lines that no test has reached:'
for file in ../../drivers/postcopy/*.c; do
	name=$(basename "$file").gcov
	[ ! -e "$name" ] || awk -F: -v name="${name%.gcov}" '
		/^ *(#####|=====):/ {
			number = $2 + 0
			sub(/^[^:]*:[^:]*:/, "")
			print "  " name ":" number ": " $0
		}' "$name"
done
