#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs the tests inside the test VM and prints TAP: one line for each test of each
# program, "ok"/"not ok", under names like fault.one_request_for_many_threads.
#
# usage: run.sh MODULE NAME...
#	STRESS_SECONDS, SEED: see selftests/postcopy/stress_test.c
#
# A test program is a file in build/selftests/ and prints TAP (kselftest). When it has
# ended, the module must unload. Scenarios are selftests/scenarios/NAME.sh. A program
# or scenario that prints no TAP is judged by its exit status; 4 means skipped. After
# each program the kernel log is read, and a complaint in it fails the program.
#
# The exit status is 0, 1 if a test failed, or 123 if the run is void: see emulator.sh.

set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=selftests/qemu/emulator.sh
. selftests/qemu/emulator.sh
# shellcheck source=scripts/arch.sh
. scripts/arch.sh

module=$1
shift
# In seconds. A scenario boots guests inside the guest.
program_timeout=${TIMEOUT:-150}
scenario_timeout=${TIMEOUT:-300}
log=$(mktemp -d /tmp/run.XXXXXX)
failed=0
verdicts=0
export STRESS_SECONDS=${STRESS_SECONDS:-30}
# For tests that unload it themselves
export POSTCOPY_MODULE=$PWD/$module

# timeout_of PROGRAM
timeout_of()
{
	case $1 in
	stress) echo $((STRESS_SECONDS + 200)) ;;
	failnth) echo 700 ;;
	*) echo "$program_timeout" ;;
	esac
}

# verdict ok|"not ok" NAME
verdict()
{
	case $1 in
	not*) failed=$((failed + 1)) ;;
	esac
	verdicts=$((verdicts + 1))
	echo "$1 - $2"
}

# check NAME COMMAND... - one test: does the command succeed?
check()
{
	local name=$1
	shift

	if "$@"; then
		verdict ok "$name"
	else
		verdict "not ok" "$name"
		return 1
	fi
}

load()
{
	insmod "$module" && [ -c /dev/postcopy ]
}

# Processes that were killed may still be on their way out.
unload()
{
	local end=$((SECONDS + 30))

	until rmmod postcopy 2>"$log/rmmod"; do
		[ "$SECONDS" -lt "$end" ] || break
		sleep 0.1
	done
	[ -e /sys/module/postcopy ] || return 0
	cat "$log/rmmod"
	echo "use count $(cat /sys/module/postcopy/refcnt)"
	return 1
}

# kernel_log - succeeds if there is no complaint in it; ends the run if the emulator is to blame
kernel_log()
{
	local fault

	dmesg -c > "$log/dmesg"
	first_complaint "$log/dmesg" 60 > "$log/complaint" || return 0
	sed 's/^/# /' "$log/complaint"
	first_complaint "$log/dmesg" 200 > "$log/complaint"
	! fault=$(emulator_complaint_fault "$log/complaint") ||
		emulator_void "$fault" "the kernel log shows it"
	return 1
}

# leaks - succeeds if kmemleak, on a kernel that has it, finds no memory without a pointer to it.
# kmemleak ignores objects younger than 5 s. A pointer that moves during the first scan is missed,
# so only a second scan is believed.
leaks()
{
	local file=/sys/kernel/debug/kmemleak

	: > "$log/leaks"
	if [ -w "$file" ]; then
		sleep 5
		echo scan > "$file"
		[ ! -s "$file" ] || echo scan > "$file"
		cat "$file" > "$log/leaks"
		echo clear > "$file"
		sed 's/^/# /' "$log/leaks"
	fi
	[ ! -s "$log/leaks" ]
}

# pass_on NAME - a filter: a program's TAP, line by line, with the program's name in front. It is
# sed, because mawk does not begin before it has read 4 KiB.
pass_on()
{
	sed -u -E "
	/^(not )?ok [0-9]+/ {
		s/^(not ok|ok) [0-9]+ *-? */\1 - /
		s/^(not ok|ok) - global\./\1 - /
		/^(not ok|ok) - $1\./! s/^(not ok|ok) - /&$1./
		b
	}
	/^#  RUN|^#  *OK  |^# PASSED|^# Totals|^TAP |^[0-9]+\.\.|^# Starting/ d
	/^#/! s/^/# /"
}

# A test is ended after 60 s. This says before that where its processes are, so that a test that
# hangs can be told from one that is slow. ps is of no use here: it reads command lines and needs
# the mmap_lock for that.
tell_who_is_stuck()
{
	local dir name up stat task told=' '

	while sleep 10; do
		read -r up _ < /proc/uptime
		for dir in /proc/[1-9]*; do
			read -r name < "$dir/comm"
			if [[ $name != *_tes* || $told == *" $dir "* ]]; then
				continue
			fi
			stat=$(< "$dir/stat")
			# The fields after the name, which may have blanks in it; the 20th is the start.
			read -r -a stat <<< "${stat##*) }"
			[ $((${up%.*} - stat[19] / 100)) -ge 35 ] || continue
			told="$told$dir "
			echo "$name, $dir, for 35 s and more:"
			for task in "$dir/task"/*; do
				grep State "$task/status"
				cat "$task/syscall" "$task/stack"
			done
		done
	done
}

# Each line is passed on at once: a test that failed before the VM died has failed.
run_one()
{
	local name=$1 timeout=$2 status plan count watcher program start=$SECONDS
	shift 2

	load > "$log/output" 2>&1 || {
		verdict "not ok" "$name.the_module_loads"
		sed 's/^/# /' "$log/output"
		dmesg -c | tail -n 20 | sed 's/^/# /'
		return
	}
	tell_who_is_stuck > "$log/stuck" 2>/dev/null &
	watcher=$!
	# Into a file: of a pipe, a process that outlives the program would hold the other end.
	: > "$log/output"
	timeout -k 5 "$timeout" "$@" > "$log/output" 2>&1 < /dev/null &
	program=$!
	tail -n +1 -s 0.1 --pid="$program" -f "$log/output" | pass_on "$name" | tee "$log/tap"
	wait "$program"
	status=$?
	{ kill "$watcher"; wait "$watcher"; } 2>/dev/null
	[ "$status" -ne "$emulator_void_status" ] || exit "$status"
	failed=$((failed + $(grep -c '^not ok' "$log/tap")))

	count=$(grep -cE '^(not )?ok ' "$log/tap")
	verdicts=$((verdicts + count))
	plan=$(sed -n 's/^1\.\.\([0-9]*\).*/\1/p' "$log/output" | head -n 1)
	if [ "$status" -eq 4 ] && [ "$count" -eq 0 ]; then
		verdict ok "$name # SKIP $(tail -n 1 "$log/output" | sed 's/^1\.\.0 # SKIP //')"
	elif [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
		verdict "not ok" "$name.ends_in_time"
	elif [ "$count" -eq 0 ]; then
		check "$name" [ "$status" -eq 0 ]
	elif [ -n "$plan" ] && [ "$plan" -ne "$count" ]; then
		verdict "not ok" "$name.runs_all_its_tests"
	elif [ "$status" -ne 0 ] && ! grep -q '^not ok' "$log/tap"; then
		verdict "not ok" "$name.exits_with_0"
	fi

	check "$name.leaves_the_kernel_log_clean" kernel_log
	if grep -q '^not ok' "$log/tap"; then
		sed 's/^/# /' "$log/stuck"
	fi
	# --ppid 2: kernel threads
	check "$name.lets_the_module_unload" unload ||
		ps --ppid 2 -N -o pid,stat,wchan:20,args | sed 's/^/# /'
	kernel_log || verdict "not ok" "$name.unloads_without_a_complaint"
	echo "# $name: $((SECONDS - start)) s"
}

# KVM rewrites its code for the first and the last virtual machine: see kvm_hold.c.
if modprobe -q kvm_amd || modprobe -q kvm_intel; then
	"$build/selftests/kvm_hold" > "$log/kvm_hold" 2>&1 &
	timeout 20 sh -c "until grep -q ready '$log/kvm_hold'; do sleep 0.05; done"
fi

kcsan=/sys/kernel/debug/kcsan
[ ! -w "$kcsan" ] || echo on > "$kcsan"
dmesg -C
[ ! -w /sys/kernel/debug/kmemleak ] || leaks > /dev/null
for name; do
	[ "$name" != kvm ] || emulator_guests_run
	if [ -x "$build/selftests/${name}_test" ]; then
		run_one "$name" "$(timeout_of "$name")" "$build/selftests/${name}_test"
	elif [ -x "selftests/scenarios/$name.sh" ]; then
		run_one "$name" "$scenario_timeout" "selftests/scenarios/$name.sh"
	else
		verdict "not ok" "$name.exists"
	fi
done
# KCSAN finds no race if it does not watch anything.
if [ -e "$kcsan" ]; then
	check kcsan.watches [ "$(awk '/^setup_watchpoints:/ { print $2 }' "$kcsan")" -gt 0 ]
fi
# With the module's variables gone, nothing points to memory that it forgot to free. A scan takes
# some 20 s, so there is one for all programs. Run them one by one to learn which one leaks.
[ ! -e /sys/kernel/debug/kmemleak ] || check kmemleak.finds_nothing leaks
rm -rf "$log"
echo "1..$verdicts"
[ "$failed" -eq 0 ]
