#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds everything for all kernels, runs the tests in a VM of each, then the test programs
# on the debug kernels and umig's own tests here, and ends with one line of
# totals. On an x86 machine most scenarios run in emulated arm64 VMs: see run_arm64.
#
# usage: test.sh [--kernel KERNEL|--debug|--all] [NAME]...
#	--debug	only on the debug kernels, but there all test programs
#	--all	everything on every kernel and architecture, which takes hours
#
# STRESS_SECONDS and SEED are passed on to selftests/postcopy/stress_test.c, ACCEL to
# selftests/qemu/accel.sh.
#
# Each part is run once. Its verdict is its TAP and its exit status. Only vm.sh starts
# again, when the emulator has ended its VM: such a run is void, void runs are counted,
# and too many of them are a failure (selftests/qemu/emulator.sh).

# A lane has files of its own.
# shellcheck disable=SC2030,SC2031

set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=selftests/qemu/emulator.sh
. selftests/qemu/emulator.sh
# Each kernel says which release it needs: see use_kernel().
unset DEBIAN
# shellcheck source=scripts/arch.sh
. scripts/arch.sh

kernels=$(scripts/kernel.sh list)
debug_kernels="debug debug-7.3 kcsan"
# KCSAN on an emulated processor is slow. A run of everything takes only the programs that race most.
kcsan_names="fault helper discard convert shared stress"
chosen=
complete=
case ${1-} in
--kernel)
	chosen=y
	kernels=
	debug_kernels=
	case $2 in
	debug|debug-*|kcsan) debug_kernels=$2 ;;
	*) kernels=$2 ;;
	esac
	shift 2
	;;
--debug)
	chosen=y
	kernels=
	shift
	;;
--all)
	complete=y
	shift
	;;
esac
names=("$@")
everything=
[ $# -gt 0 ] || everything=y
all_scenarios=$(basename -a -s .sh selftests/scenarios/*.sh)
scenarios=$all_scenarios
scenario_kernels=$kernels
bench_kernels=$kernels
arm64_kernels=
if [ "$everything" ] && [ -z "$chosen" ] && [ "$arch" = x86 ]; then
	arm64_kernels=$(ARCH=arm64 scripts/kernel.sh list)
fi
# What a run of everything leaves to --all, so that it takes an hour: see Documentation/testing.rst. KVM is
# stable in an emulated arm64 machine, and dies in an emulated x86 machine. So x86 keeps the scenarios
# that need soft-dirty bits, one more with a private region, and one with a shared region and Linux,
# which KVM lets run on while a page is missing.
if [ "$everything" ] && [ -z "$chosen$complete" ]; then
	kernels=$(echo "$kernels" | grep -v -- -rt)
	debug_kernels="debug-7.3 kcsan"
	bench_kernels="6.1 6.12"
	if [ "$arch" = x86 ]; then
		arm64_kernels="6.1 7.3"
		scenario_kernels=6.12
		scenarios="migrate migrate_precopy migrate_precopy_switch snapshot vhost_user"
	fi
fi
# A choice of tests is not for the debug kernels unless they are asked for, and those of another
# architecture are for who asks for them.
[ "$chosen" ] || [ "$everything" ] || debug_kernels=
[ ! "$foreign" ] || [ "$chosen" ] || debug_kernels=
results=$build/results
all=$results/all.tap
times=$results/times

scripts/setup.sh test || exit 1
[ ! "$arm64_kernels" ] || ARCH=arm64 scripts/setup.sh test || exit 1
rm -rf "$results"
mkdir -p "$results"
: > "$all"
: > "$times"
# vm.sh adds a line to it for each void run.
export VM_VOIDS=$PWD/$results/voids
: > "$VM_VOIDS"
# A warning is an error here.
export WERROR=1

# use_kernel KERNEL - from here on, build and run with the Debian release that it needs
use_kernel()
{
	DEBIAN=$(scripts/kernel.sh "$1" debian)
	export DEBIAN
	# shellcheck source=scripts/arch.sh
	. scripts/arch.sh
}

say()
{
	echo "$*" | tee -a "$all"
}

# timed PART COMMAND... - runs it and notes how long it took
timed()
{
	local part=$1 start=$EPOCHREALTIME status=0
	shift

	"$@" || status=$?
	printf '%s %s\n' "$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))" "$part" >> "$times"
	return "$status"
}

# check NAME COMMAND... - one test that is a command
check()
{
	local name=$1
	shift

	if VM_NAME=$name timed "$name" "$@" > "$results/$name.log" 2>&1; then
		say "ok - $name"
		return 0
	fi
	tail -n 40 "$results/$name.log" | sed 's/^/# /'
	say "not ok - $name"
	return 1
}

# build_module KERNEL - a warning fails the build. modpost warns without failing it.
build_module()
{
	local log=$results/module-$1.log

	make modules KERNEL="$1" W=1 > "$log" 2>&1 || { cat "$log"; return 1; }
	! grep -E 'warning:|WARNING:' "$log"
}

# A run of everything has minutes of random work, most of it where errors show best.
stress_seconds()
{
	case $1 in
	debug|debug-*) echo "${STRESS_SECONDS:-180}" ;;
	*) echo "${STRESS_SECONDS:-30}" ;;
	esac
}

# run_vm KERNEL PART NAME... - run.sh with these tests in a VM; its output is in
# $results/vm-KERNEL.PART/output
run_vm()
{
	local kernel=$1 part=$2
	shift 2
	# Memory policy needs two nodes.
	local mem=4G limit=480 append=
	local -a environment=("STRESS_SECONDS=$(stress_seconds "$kernel")" "SEED=${SEED-}")

	# run.sh ends a scenario after 300 s.
	[ ! -e "selftests/scenarios/$part.sh" ] || limit=400
	case $kernel in
	debug|debug-*|kcsan)
		# kmemleak reads all of the memory. Guests need some.
		mem=1536M
		[ ! -e "selftests/scenarios/$part.sh" ] || mem=3G
		limit=3000
		# KCSAN reports races of the whole kernel. run.sh picks those of the module.
		[ "$kernel" = kcsan ] || append="$append panic_on_warn=1"
		environment+=("TIMEOUT=${TIMEOUT:-400}")
		;;
	esac
	VM_NAME=$kernel/$part selftests/qemu/vm.sh --kernel "$kernel" --mem "$mem" \
		--timeout "${VM_TIMEOUT:-$limit}" --nodes 2 --append "$append" --out "$results/vm-$kernel.$part" -- \
		env "${environment[@]}" \
		selftests/run.sh "$build/$kernel/drivers/postcopy/postcopy.ko" "$@" \
		> "$results/$kernel.$part.log" 2>&1
}

# judge KERNEL PART STATUS - what a part's exit status says that its TAP does not
judge()
{
	local kernel=$1 part=$2 status=$3 tap=$results/$1.$2.tap plan count failed

	plan=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$tap")
	count=$(grep -cE '^(not )?ok ' "$tap")
	failed=$(grep -c '^not ok ' "$tap")
	case $status in
	0|1)
		# A line that was lost on the serial port must not be a test that passed.
		if [ "${plan:-none}" != "$count" ]; then
			echo "not ok - $kernel: $part: prints_each_verdict (plan ${plan:-none}, $count printed)"
		elif [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
			echo "not ok - $kernel: $part: exits_with_0 (status $status)"
		fi
		return
		;;
	"$emulator_void_status") echo "not ok - $kernel: $part: could_not_be_run (too many void runs in a row)" ;;
	124) echo "not ok - $kernel: $part: ends_in_time" ;;
	125) echo "not ok - $kernel: $part: the_vm_runs_to_the_end" ;;
	*) echo "not ok - $kernel: $part: exits_with_0 (status $status)" ;;
	esac
	# The end of the console, or why there was none
	tail -n 70 "$results/$kernel.$part.log" | sed 's/^\(# \)\?/# /'
}

# run_part KERNEL PART NAME... - some tests in one VM
run_part()
{
	local kernel=$1 part=$2 tap=$results/$1.$2.tap status=0
	shift 2

	echo "# $kernel: $part"
	timed "$kernel: $part" run_vm "$kernel" "$part" "$@" || status=$?
	sed "s/^\(not ok\|ok\) - /\1 - $kernel: /" "$results/vm-$kernel.$part/output" > "$tap" 2>/dev/null
	judge "$kernel" "$part" "$status" >> "$tap"
	grep -v '^1\.\.' "$tap" | tee -a "$all"
}

all_programs()
{
	basename -a -s _test "$build"/selftests/*_test
}

# All programs in one VM, each scenario in one of its own.
run_kernel()
{
	local kernel=$1 name programs=()

	use_kernel "$kernel"
	if [ "${#names[@]}" -eq 0 ]; then
		# shellcheck disable=SC2086 # a list of words
		mapfile -t names < <(all_programs; printf '%s\n' $scenarios)
	fi
	for name in "${names[@]}"; do
		[ -e "selftests/scenarios/$name.sh" ] || programs+=("$name")
	done
	if [ "${#programs[@]}" -gt 0 ]; then
		run_part "$kernel" programs "${programs[@]}"
	fi
	grep -qx "$kernel" <<< "${scenario_kernels// /$'\n'}" || return
	for name in "${names[@]}"; do
		[ ! -e "selftests/scenarios/$name.sh" ] || run_part "$kernel" "$name" "$name"
	done
}

# run_arm64 KERNEL [NAME]... - a run of this script for arm64, in emulated machines. Its results
# become part of this run's.
run_arm64()
{
	local kernel=$1 log=$results/arm64-$1.log other=build/arm64/results status
	local rename='s/^\(\(not \)\?ok -\|#\) /&arm64: /'

	rm -rf "$other"
	ARCH=arm64 scripts/test.sh --kernel "$@" | tee "$log" |
		sed -u "/^# Where the time/,\$d; $rename"
	status=${PIPESTATUS[0]}
	sed "$rename" "$other/all.tap" >> "$all"
	sed 's/ /&arm64: /' "$other/times" >> "$times"
	sed 's,^,arm64/,' "$other/voids" >> "$VM_VOIDS"
	[ "$status" -eq 0 ] || grep -q '^not ok' "$other/all.tap" ||
		say "not ok - arm64: $kernel (status $status)"
}

# umig's tests name themselves in comments ("# pull.sh: 12 s"), which become rows of the table.
run_umig()
{
	local tap=$results/umig.tap status=0

	TIMES=$PWD/$times make -s -C tools/umig check > "$tap" 2>&1 || status=$?
	sed -nE 's/^(not ok|ok) ([0-9]+ )?(- )?(.*)/\1 - umig: \4/p; /^#/p' "$tap" | tee -a "$all"
	if [ "$status" -ne 0 ] && ! grep -q '^not ok' "$tap"; then
		tail -n 40 "$tap" | sed 's/^/# /'
		say "not ok - umig: check (status $status)"
	fi
}

# One row for each part that took a second or more
show_times()
{
	echo "# Where the time went:"
	echo "#   seconds   void  of them void  part"
	awk -v voids="$VM_VOIDS" '
	BEGIN {
		while ((getline line < voids) > 0) {
			split(line, word, " ")
			gsub("/", ": ", word[1])
			number[word[1]]++
			lost[word[1]] += word[3]
		}
	}
	{
		ms = $1
		part = substr($0, length(ms) + 2)
		total += ms
		nr += number[part]
		all_lost += lost[part]
		if (ms < 1000)
			rest += ms
		else
			row(ms, number[part], lost[part], part)
	}
	END {
		row(rest, 0, 0, "everything shorter than a second")
		row(total, nr, all_lost, "together")
	}
	function row(ms, nr, seconds, part) {
		printf "#   %7.1f  %5d  %10d s  %s\n", ms / 1000, nr, seconds, part
	}' "$times"
}

# The void runs, by fault and by part; more than a run of everything usually has fail it.
count_voids()
{
	local nr

	nr=$(wc -l < "$VM_VOIDS")
	say "# void: $nr runs, by fault:$(awk '{ n[$2]++ } END { for (f in n) printf " %s %d", f, n[f] }' "$VM_VOIDS")"
	[ "$nr" -eq 0 ] || awk '{ n[$1 " " $2]++ } END { for (f in n) print "#   " f " " n[f] }' "$VM_VOIDS" | sort
	[ "$nr" -le "$emulator_voids_allowed" ] ||
		say "not ok - no more than $emulator_voids_allowed runs are void ($nr)"
}

for kernel in $debug_kernels; do
	use_kernel "$kernel"
	check "build.kernel_$kernel" scripts/debug-kernel.sh "$kernel"
done
builds=" "
for kernel in $kernels $debug_kernels; do
	use_kernel "$kernel"
	[[ "$builds" != *" $build "* ]] || continue
	builds+="$build "
	if [ "$enter" ]; then
		check "build.debian_$debian" "$enter" scripts/setup.sh test
		check "build.umig_on_debian_$debian" make umig
		check "build.selftests_on_debian_$debian" make selftests
	else
		check build.umig make umig
		check build.selftests make selftests
	fi
done
for kernel in $kernels $debug_kernels; do
	use_kernel "$kernel"
	check "build.module_for_$kernel" build_module "$kernel"
done
# Before VMs use these roots: it may install packages in one.
for kernel in $arm64_kernels; do
	# shellcheck disable=SC2016 # expanded by the inner shell
	check "build.root_for_arm64_$kernel" env ARCH=arm64 DEBIAN="$(scripts/kernel.sh "$kernel" debian)" \
		sh -c '. scripts/arch.sh && ${enter:-env} scripts/setup.sh test'
done

# The probe of /dev/kvm takes seconds, so it is made once.
# shellcheck disable=SC2086 # lists of words
set -- $kernels $debug_kernels
use_kernel "$1"
image=$(scripts/kernel.sh "$1" image) || exit 1
[ ! "$foreign" ] || ACCEL=tcg
export ACCEL=${ACCEL-}
if ! ACCEL=$(selftests/qemu/accel.sh "$image" 2> "$results/accel"); then
	cat "$results/accel"
	exit 1
fi
export ACCEL
sed 's/^accel.sh: /# test VMs: /' "$results/accel"

# lane COMMAND... - beside other lanes. What it says is kept together in a file of its own.
lanes=()
lane()
{
	local file=$results/lane.${#lanes[@]}

	lanes+=("$file")
	(
		all=$file.all
		times=$file.times
		: > "$all"
		: > "$times"
		"$@"
		touch "$file.ended"
	) &
}

# end_lanes - wait for them
end_lanes()
{
	local file

	wait
	for file in "${lanes[@]}"; do
		# A shell that ends by an error of its own leaves tests out.
		[ -e "$file.ended" ] || echo "not ok - ${file##*/} runs to its end" | tee -a "$file.all"
		cat "$file.all" >> "$all"
		cat "$file.times" >> "$times"
		rm "$file".*
	done
	lanes=()
}

run_kernels()
{
	local kernel

	for kernel in $kernels; do
		use_kernel "$kernel"
		if [ -e "$build/$kernel/drivers/postcopy/postcopy.ko" ]; then
			run_kernel "$kernel"
		fi
	done
}

# The oldest kernel has the oldest QEMU for its scenarios, the newest the newest.
run_arm64_kernels()
{
	local kernel

	for kernel in $arm64_kernels; do
		# Its programs are for --all: the newest kernel's will do.
		if [ "$kernel" = 6.1 ] && [ ! "$complete" ]; then
			# shellcheck disable=SC2086 # a list of words
			run_arm64 "$kernel" $all_scenarios
		else
			run_arm64 "$kernel"
		fi
	done
}

# The debug kernels of x86 have no KVM, and on that of arm64 guests are too slow: they run scenarios
# only if they are told to.
run_debug_kernel()
{
	local kernel=$1 programs

	use_kernel "$kernel"
	[ -e "$build/$kernel/drivers/postcopy/postcopy.ko" ] || return
	if [ -z "$everything" ]; then
		scenario_kernels=$kernel
		run_kernel "$kernel"
	elif [ "$kernel" = kcsan ] && [ -z "$chosen$complete" ]; then
		# shellcheck disable=SC2086 # a list of words
		run_part "$kernel" programs $kcsan_names
	else
		mapfile -t programs < <(all_programs)
		run_part "$kernel" programs "${programs[@]}"
	fi
}

run_debug_kernels()
{
	local kernel

	for kernel in $debug_kernels; do
		[ "$kernel" = kcsan ] || run_debug_kernel "$kernel"
	done
}

# What takes about as long as the debug kernels
run_rest()
{
	local kernel

	[[ " $debug_kernels " != *" kcsan "* ]] || run_debug_kernel kcsan
	[ "$everything" ] && [ -z "$chosen$foreign" ] || return
	unset DEBIAN
	for kernel in $bench_kernels; do
		check "bench.instructions_on_$kernel" selftests/bench/run.sh --kernel "$kernel" --check
	done
	run_umig
}

# Two at a time: an emulated machine keeps one of two processors busy.
lane run_kernels
[ ! "$arm64_kernels" ] || lane run_arm64_kernels
end_lanes
lane run_debug_kernels
lane run_rest
end_lanes

show_times
count_voids
failed=$(grep -c '^not ok' "$all")
skipped=$(grep -cE '^ok .*# *SKIP' "$all")
passed=$(($(grep -c '^ok' "$all") - skipped))
if [ "$failed" -gt 0 ]; then
	echo "# Failures, each with the lines before it:"
	grep -B 15 '^not ok' "$all" | sed 's/^\(# \)\?/# /'
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
