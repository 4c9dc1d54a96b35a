#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds everything for both kernels, runs the tests in a VM of each and umig's own
# tests here, then the test programs on the debug kernels, and ends with one line of
# totals.
#
# usage: test.sh [--kernel KERNEL|--debug] [NAME]...
#	--debug	only on the kernels of debug-kernel.sh, but there all test programs
#
# STRESS_SECONDS and SEED are passed on to selftests/postcopy/stress_test.c.

set -u
cd "$(dirname "$0")/.." || exit 1

kernels="6.1 6.12"
debug_kernels="debug kcsan"
# KCSAN on an emulated processor is slow: in a run of everything, what races most.
kcsan_names="fault helper discard convert shared stress"
chosen=
case ${1-} in
--kernel)
	chosen=y
	kernels=
	debug_kernels=
	case $2 in
	debug|kcsan) debug_kernels=$2 ;;
	*) kernels=$2 ;;
	esac
	shift 2
	;;
--debug)
	chosen=y
	kernels=
	shift
	;;
esac
names=("$@")
# A choice of tests is not for the debug kernels unless they are asked for.
[ $# -eq 0 ] || [ "$chosen" ] || debug_kernels=
everything=
[ $# -gt 0 ] || everything=y
# Seconds for one VM
timeout=${VM_TIMEOUT:-480}
results=build/results
all=$results/all.tap
# What is said of a VM that did not
vm_died=the_vm_runs_to_the_end

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

# Ten minutes of random work in a run of everything, most of them where errors show.
stress_seconds()
{
	case $1 in
	debug) echo "${STRESS_SECONDS:-480}" ;;
	*) echo "${STRESS_SECONDS:-30}" ;;
	esac
}

# run_vm KERNEL PART NAME... - some tests in one VM, into $results/KERNEL.PART.tap. A VM
# that died or was killed has not said how many tests are missing: one failure. What was
# said before vm.sh had to start again does not count.
run_vm()
{
	local kernel=$1 part=$2 log=$results/$1.$2.log status
	shift 2
	# Memory policy needs two nodes.
	local mem=4G limit=$timeout append=numa=fake=2

	# In it run.sh ends the scenario after 300 s.
	[ ! -e "selftests/scenarios/$part.sh" ] || limit=${VM_TIMEOUT:-400}
	local -a environment=("STRESS_SECONDS=$(stress_seconds "$kernel")" "SEED=${SEED-}")

	case $kernel in
	debug|kcsan)
		# kmemleak reads all of the memory after each program.
		mem=1536M
		limit=${VM_TIMEOUT:-3000}
		# KCSAN warns of everybody's races; which are ours, run.sh decides.
		[ "$kernel" = kcsan ] || append="$append panic_on_warn=1"
		environment+=("TIMEOUT=${TIMEOUT:-400}")
		;;
	esac
	selftests/qemu/vm.sh --kernel "$kernel" --mem "$mem" --timeout "$limit" \
		--append "$append" --out "$results/vm-$kernel.$part" -- env "${environment[@]}" \
		selftests/run.sh "build/$kernel/drivers/postcopy/postcopy.ko" "$@" \
		2>&1 | sed -u "s/^\(not ok\|ok\) - /\1 - $kernel: /" | tee "$log"
	status=${PIPESTATUS[0]}
	if ! grep -qx '# end' "$log"; then
		echo "not ok - $kernel: $part: $vm_died (status $status)" | tee -a "$log"
	fi
	awk '/^# vm.sh: .* starting again/ { n = 0 } { line[n++] = $0 }
		END { for (i = 0; i < n; i++) print line[i] }' "$log" > "${log%.log}.tap"
}

# run_part KERNEL PART NAME... - the same as often as it takes, and what counts of it.
# A scenario is timing, an emulator with known faults and a nested guest: one that fails
# is tried once more, and whatever it was, up to nine times if the VM died without a word
# (with guests in it one in two does in a minute or two); that is said to be flaky. Not if
# a byte was wrong or the module is in what the kernel complains of: that is never a
# matter of luck.
run_part()
{
	local kernel=$1 part=$2 tap=$results/$1.$2.tap failures=1 deaths=9 try
	shift 2

	[ ! -e "selftests/scenarios/$part.sh" ] || failures=2
	echo "# $kernel: $part"
	for ((try = 1; ; try++)); do
		run_vm "$kernel" "$part" "$@" > /dev/null
		grep -q '^not ok' "$tap" || break
		if grep -q "$vm_died" "$tap"; then
			[ "$((deaths--))" -gt 0 ] || break
		else
			[ "$((--failures))" -gt 0 ] || break
		fi
		! grep -qE 'wrong bytes [1-9]|wrong page|digest.*(differ|mismatch)' "$tap" || break
		grep -q "died of QEMU's emulation$" "$tap" || ! grep -q '\[postcopy\]' "$tap" || break
		sed 's/^/# /' "$tap"
		mv "$results/vm-$kernel.$part" "$results/vm-$kernel.$part.$try"
		echo "# FLAKY $kernel: $part: try $try is void, once more"
	done
	tee -a "$all" < "$tap"
}

# All programs in one VM, each scenario in one of its own.
run_kernel()
{
	local kernel=$1 name programs=()

	if [ "${#names[@]}" -eq 0 ]; then
		mapfile -t names < <(basename -a -s _test build/selftests/*_test
				     basename -a -s .sh selftests/scenarios/*.sh)
	fi
	for name in "${names[@]}"; do
		[ -e "selftests/scenarios/$name.sh" ] || programs+=("$name")
	done
	if [ "${#programs[@]}" -gt 0 ]; then
		run_part "$kernel" programs "${programs[@]}"
	fi
	for name in "${names[@]}"; do
		[ ! -e "selftests/scenarios/$name.sh" ] || run_part "$kernel" "$name" "$name"
	done
}

for kernel in $debug_kernels; do
	check "build.kernel_$kernel" scripts/debug-kernel.sh "$kernel"
done
for kernel in $kernels $debug_kernels; do
	check "build.module_for_$kernel" build_module "$kernel"
done
check build.umig make umig
check build.selftests make selftests

# One after the other: two emulated machines with KVM guests in them take more than
# twice as long side by side on two processors.
for kernel in $kernels; do
	if [ -e "build/$kernel/drivers/postcopy/postcopy.ko" ]; then
		run_kernel "$kernel"
	fi
done

# No scenarios: there is no KVM in these kernels.
for kernel in $debug_kernels; do
	[ -e "build/$kernel/drivers/postcopy/postcopy.ko" ] || continue
	if [ -z "$everything" ]; then
		run_part "$kernel" programs "${names[@]}"
	elif [ "$kernel" = kcsan ] && [ -z "$chosen" ]; then
		# shellcheck disable=SC2086 # a list of words
		run_part "$kernel" programs $kcsan_names
	else
		mapfile -t programs < <(basename -a -s _test build/selftests/*_test)
		run_part "$kernel" programs "${programs[@]}"
	fi
done

if [ "$everything" ] && [ -z "$chosen" ]; then
	for kernel in $kernels; do
		check "bench.instructions_on_$kernel" selftests/bench/run.sh --kernel "$kernel" --check
	done
fi

if [ "$everything" ] && [ -z "$chosen" ] && [ -e tools/umig/Makefile ]; then
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
	echo "# What failed, with what was printed before it:"
	grep -B 15 '^not ok' "$all" | sed 's/^\(# \)\?/# /'
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
