#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs the tests inside the test VM and prints TAP: one line for each test of each
# program, "ok"/"not ok", under names like fault.one_request_for_many_threads.
#
# usage: run.sh MODULE NAME...
#	STRESS_SECONDS, SEED: see selftests/postcopy/stress_test.c
#
# A test program stands in build/selftests/, prints TAP (kselftest) and may leave
# nothing behind: after it the module must unload. Scenario scripts are
# selftests/scenarios/NAME.sh; one that prints no TAP is judged by its exit status,
# 4 is skipped. After each program the kernel log is read, and a complaint in it
# fails the program.

set -u
cd "$(dirname "$0")/.." || exit 1

module=$1
shift
# Seconds: a scenario boots guests inside the guest, beside a second test VM.
program_timeout=${TIMEOUT:-150}
scenario_timeout=${TIMEOUT:-300}
log=$(mktemp -d /tmp/run.XXXXXX)
failed=0
export STRESS_SECONDS=${STRESS_SECONDS:-30}
# For tests that unload it themselves
export POSTCOPY_MODULE=$PWD/$module

# What the kernel says when something is wrong with it, whoever did it. Nothing that is part of a
# function's name: that may stand in a stack trace.
complaints='WARNING:|BUG:|BUG at|Oops|general protection|KASAN|KCSAN|UBSAN|KFENCE|suspected memory leaks'
complaints="$complaints|possible (recursive|circular)|lockdep is turned off|lock held when|suspicious RCU|rcu.*detected .*stall"
complaints="$complaints|INFO: task|blocked for more than|soft lockup|hard LOCKUP"
complaints="$complaints|Bad page|Bad rss-counter|bad page map|refcount_t|scheduling while atomic"
complaints="$complaints|sleeping function|unable to handle"
# A TCG guest's clock is no better than its host's scheduler.
harmless='clocksource|hrtimer: interrupt took|loading out-of-tree|module verification failed'

# timeout_of PROGRAM
timeout_of()
{
	case $1 in
	stress) echo $((STRESS_SECONDS + 200)) ;;
	failnth) echo 700 ;;
	*) echo "$program_timeout" ;;
	esac
}

verdict()
{
	case $1 in
	not*) failed=$((failed + 1)) ;;
	esac
	echo "$1 - $2"
}

load()
{
	insmod "$module" && [ -c /dev/postcopy ]
}

# Processes that were killed may still be on their way out.
unload()
{
	local i

	for ((i = 0; i < 300; i++)); do
		rmmod postcopy 2>"$log/rmmod" && return 0
		sleep 0.1
	done
	cat "$log/rmmod"
	echo "use count $(cat /sys/module/postcopy/refcnt)"
	return 1
}

# What KCSAN says of races in which the module has no part is not for us to mend.
own_races()
{
	awk '
	/BUG: KCSAN:/ { held = 1; text = "" }
	!held { print; next }
	{ text = text $0 "\n"; ours = ours || /\[postcopy\]/ }
	/={20}/ { if (ours) printf "%s", text; held = ours = 0 }'
}

kernel_log()
{
	dmesg -c | own_races > "$log/dmesg"
	grep -vE "$harmless" "$log/dmesg" | grep -m 1 -E -A 60 "$complaints" > "$log/complaint"
	[ ! -s "$log/complaint" ] || {
		sed 's/^/# /' "$log/complaint"
		return 1
	}
}

# Memory that nothing points to any more, on a kernel with kmemleak. It does not look at
# objects younger than 5 s, and what one scan finds may have been moving: the second tells.
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

# The program's own TAP under its own name
pass_on()
{
	awk -v name="$1" '
	/^(not )?ok [0-9]+/ {
		verdict = sub(/^not ok [0-9]+ *-? */, "") ? "not ok" : "ok"
		sub(/^ok [0-9]+ *-? */, "")
		sub(/^global\./, "")
		if (index($0, name ".") != 1)
			$0 = name "." $0
		print verdict " - " $0
		next
	}
	/^#  RUN|^#  *OK  |^# PASSED|^# Totals|^TAP |^[0-9]+\.\.|^# Starting/ { next }
	/^#/ { print; next }
	{ print "# " $0 }' "$log/output"
}

# A test is ended after 60 s: before that, where its processes are, so that one that hangs can be
# told from one that is slow. Not by ps, which reads command lines: for that it needs the mmap_lock.
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
			# What follows the name, which may have blanks; the 20th is the start.
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

run_one()
{
	local name=$1 timeout=$2 status plan count watcher start=$SECONDS
	shift 2

	load > "$log/output" 2>&1 || {
		verdict "not ok" "$name.the_module_loads"
		sed 's/^/# /' "$log/output"
		dmesg -c | tail -n 20 | sed 's/^/# /'
		return
	}
	tell_who_is_stuck > "$log/stuck" 2>/dev/null &
	watcher=$!
	timeout -k 5 "$timeout" "$@" > "$log/output" 2>&1 < /dev/null
	status=$?
	{ kill "$watcher"; wait "$watcher"; } 2>/dev/null
	pass_on "$name" > "$log/tap"
	cat "$log/tap"
	failed=$((failed + $(grep -c '^not ok' "$log/tap")))

	count=$(grep -cE '^(not )?ok ' "$log/tap")
	plan=$(sed -n 's/^1\.\.\([0-9]*\).*/\1/p' "$log/output" | head -n 1)
	if [ "$status" -eq 4 ] && [ "$count" -eq 0 ]; then
		verdict ok "$name # SKIP $(tail -n 1 "$log/output")"
	elif [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
		verdict "not ok" "$name.ends_in_time"
	elif [ "$count" -eq 0 ]; then
		if [ "$status" -eq 0 ]; then
			verdict ok "$name"
		else
			verdict "not ok" "$name"
		fi
	elif [ -n "$plan" ] && [ "$plan" -ne "$count" ]; then
		verdict "not ok" "$name.runs_all_its_tests"
	elif [ "$status" -ne 0 ] && ! grep -q '^not ok' "$log/tap"; then
		verdict "not ok" "$name.exits_with_0"
	fi

	if kernel_log; then
		verdict ok "$name.leaves_the_kernel_log_clean"
	else
		verdict "not ok" "$name.leaves_the_kernel_log_clean"
	fi
	if grep -q '^not ok' "$log/tap"; then
		sed 's/^/# /' "$log/stuck"
	fi
	if unload; then
		verdict ok "$name.lets_the_module_unload"
	else
		verdict "not ok" "$name.lets_the_module_unload"
		# --ppid 2: kernel threads
		ps --ppid 2 -N -o pid,stat,wchan:20,args | sed 's/^/# /'
	fi
	kernel_log || verdict "not ok" "$name.unloads_without_a_complaint"
	echo "# $name: $((SECONDS - start)) s"
}

# KVM rewrites its code for the first and the last virtual machine: see kvm_hold.c. None is the
# first as long as there is this one.
if modprobe -q kvm_amd || modprobe -q kvm_intel; then
	selftests/qemu/kvm_hold > "$log/kvm_hold" 2>&1 &
	timeout 20 sh -c "until grep -q ready '$log/kvm_hold'; do sleep 0.05; done"
fi

kcsan=/sys/kernel/debug/kcsan
[ ! -w "$kcsan" ] || echo on > "$kcsan"
dmesg -C
[ ! -w /sys/kernel/debug/kmemleak ] || leaks > /dev/null
for name; do
	if [ -x "build/selftests/${name}_test" ]; then
		run_one "$name" "$(timeout_of "$name")" "build/selftests/${name}_test"
	elif [ -x "selftests/scenarios/$name.sh" ]; then
		run_one "$name" "$scenario_timeout" "selftests/scenarios/$name.sh"
	else
		verdict "not ok" "$name.exists"
	fi
done
# Races that nobody looked for are not found.
if [ -e "$kcsan" ]; then
	if [ "$(awk '/^setup_watchpoints:/ { print $2 }' "$kcsan")" -gt 0 ]; then
		verdict ok kcsan.watches
	else
		verdict "not ok" kcsan.watches
	fi
fi
# With the module's variables gone, what it forgot to free has no owner. A scan takes some
# 20 s, so it is one for all programs; which one it was, running them one by one tells.
if [ -e /sys/kernel/debug/kmemleak ]; then
	if leaks; then
		verdict ok kmemleak.finds_nothing
	else
		verdict "not ok" kmemleak.finds_nothing
	fi
fi
rm -rf "$log"
echo "# end"
[ "$failed" -eq 0 ]
