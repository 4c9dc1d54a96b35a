#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds everything for both kernels, runs the tests in a VM of each and umig's own
# tests here, and ends with one line of totals.
#
# usage: test.sh [--kernel KERNEL] [NAME]...

set -u
cd "$(dirname "$0")/.." || exit 1

kernels="6.1 6.12"
if [ "${1-}" = --kernel ]; then
	kernels=$2
	shift 2
fi
names=("$@")
# Seconds for one VM
timeout=${VM_TIMEOUT:-600}
results=build/results
all=$results/all.tap

scripts/setup.sh test || exit 1
rm -rf "$results"
mkdir -p "$results"
: > "$all"

say()
{
	echo "$*" | tee -a "$all"
}

# check NAME COMMAND... - one test that is a command
check()
{
	local name=$1
	shift

	if "$@" > "$results/$name.log" 2>&1; then
		say "ok - $name"
		return 0
	fi
	tail -n 40 "$results/$name.log" | sed 's/^/# /'
	say "not ok - $name"
	return 1
}

build_module()
{
	make modules KERNEL="$1" W=1 && ! grep -E 'warning:|WARNING:' "$results/build.module_for_$1.log"
}

# QEMU 7.2's TCG now and then takes an interrupt between #VMEXIT and STGI, where the
# host's GS is not loaded yet: the handler faults until its stack is full. Seen on both
# kernels, once in some ten minutes of nested guests; nothing of ours is involved.
emulator_failed()
{
	grep -q 'stack guard page was hit' "$1" && grep -q 'RIP: 0010:__svm_vcpu_run' "$1"
}

# run_vm KERNEL NAME... - these tests in one VM. A VM that died or was killed has not
# said how many tests are missing: one failure.
run_vm()
{
	local kernel=$1 out tap status attempt
	shift

	for attempt in 1 2 3; do
		out=$results/vm-$kernel-$1
		tap=$out.tap
		selftests/qemu/vm.sh --kernel "$kernel" --mem 4G --timeout "$timeout" --out "$out" \
			-- selftests/run.sh "build/$kernel/drivers/postcopy/postcopy.ko" "$@" \
			2>&1 | sed -u -E "s#^(not ok|ok) - #\1 - $kernel: #" | tee "$tap"
		status=${PIPESTATUS[0]}
		if grep -qx '# end' "$tap"; then
			break
		elif [ "$attempt" -lt 3 ] && emulator_failed "$out/console.log"; then
			echo "# $kernel: $1: QEMU's SVM emulation failed, that run does not count"
		else
			echo "not ok - $kernel: $1.the_vm_runs_to_the_end (status $status)" |
				tee -a "$tap"
			break
		fi
	done
	cat "$tap" >> "$results/$kernel.tap"
}

# Test programs share a VM, a scenario has one of its own.
run_kernel()
{
	local kernel=$1 name programs=() scenarios=()
	shift

	for name; do
		if [ -e "selftests/scenarios/$name.sh" ]; then
			scenarios+=("$name")
		else
			programs+=("$name")
		fi
	done
	[ "${#programs[@]}" -eq 0 ] || run_vm "$kernel" "${programs[@]}"
	for name in "${scenarios[@]}"; do
		run_vm "$kernel" "$name"
	done
}

all_names()
{
	local file

	for file in selftests/postcopy/*_test.c; do
		[ "$file" = selftests/postcopy/postcopy_test.c ] || basename "$file" _test.c
	done
	for file in selftests/scenarios/*.sh; do
		basename "$file" .sh
	done
}

for kernel in $kernels; do
	check "build.module_for_$kernel" build_module "$kernel"
done
check build.umig make umig
check build.selftests make selftests

mapfile -t run < <(all_names)
[ "${#names[@]}" -eq 0 ] || run=("${names[@]}")
# One after the other: two emulated machines with KVM guests in them take more than
# twice as long side by side on two processors.
for kernel in $kernels; do
	if [ -e "build/$kernel/drivers/postcopy/postcopy.ko" ]; then
		run_kernel "$kernel" "${run[@]}"
	fi
done
for kernel in $kernels; do
	[ ! -e "$results/$kernel.tap" ] || cat "$results/$kernel.tap" >> "$all"
done

if [ "${#names[@]}" -eq 0 ] && [ -e tools/umig/Makefile ]; then
	if make -s -C tools/umig check > "$results/umig.tap" 2>&1; then
		status=0
	else
		status=$?
	fi
	sed -nE 's/^(not ok|ok) ([0-9]+ )?(- )?(.*)/\1 - umig: \4/p; /^#/p' "$results/umig.tap" |
		tee -a "$all"
	if [ "$status" -ne 0 ] && ! grep -q '^not ok' "$results/umig.tap"; then
		tail -n 40 "$results/umig.tap" | sed 's/^/# /'
		say "not ok - umig: check (status $status)"
	fi
fi

failed=$(grep -c '^not ok' "$all")
skipped=$(grep -cE '^ok .*# *SKIP' "$all")
passed=$(($(grep -c '^ok' "$all") - skipped))
if [ "$failed" -gt 0 ]; then
	echo "# failed:"
	grep '^not ok' "$all" | sed 's/^/# /'
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
