# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# For scenarios with stock QEMUs, which run inside the test VM: sourced, it checks that KVM is
# there and gives the scenario guests that check their own memory. A scenario prints TAP with
# check() and ends with finish().
#
# Guests have no operating system (selftests/guest/bare.c) and compute from their first second on.
# A scenario that sets guest_kind=linux before it sources this has guests with a stock Linux, which
# boots for half a minute: it can use a disk, and while a page is missing, KVM lets it run
# something else (asynchronous page faults, on x86).

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=selftests/lib/tap.sh
. selftests/lib/tap.sh
# shellcheck source=selftests/lib/vmm.sh
. selftests/lib/vmm.sh
# shellcheck source=selftests/qemu/emulator.sh
. selftests/qemu/emulator.sh
# shellcheck source=scripts/arch.sh
. scripts/arch.sh

guest_kind=${guest_kind:-bare}
memory_mib=${MEMORY_MIB:-512}	# of each guest
guest_mib=${GUEST_MIB:-128}	# the part of it that the guest works on
# A try starts several processes. On an emulated machine they would take the time of the guests.
poll=0.2
# The source's RAM, a file
source_ram=$tmp/source.ram

scenario_cleanup()
{
	local log

	for log in "$tmp"/*.log "$tmp"/*.err "$tmp"/*.out; do
		if [ "$failed" ] && [ -s "$log" ]; then
			echo "# ${log##*/}:"
			tail -n 15 "$log" | sed 's/^/#   /'
		fi
	done
	cleanup
}
trap scenario_cleanup EXIT

# Where a scenario's own output goes
exec 3>&1
# The names of the guests so far
declare -A guests

# examine_failure - called by check() before it prints "not ok": shows what the guests are doing. If
# the emulator has spoilt one of them and nothing has failed before, the run is void.
examine_failure()
{
	local name pid fault

	tail -n 3 "$tmp"/recv.err "$tmp"/send.err
	"$umig" list
	for name in "${!guests[@]}"; do
		pid=${name}_pid
		[ -d "/proc/${!pid-}/task" ] || continue
		echo "$name: $(tail -n 1 "$tmp/$name.serial" | tr -d '\r')"
		tail -n 3 "$tmp/$name.log"
		qmp "$name" query-status
		# QEMU prints them itself when KVM gives up a vCPU. Then it may not answer: it shows
		# the code as well, and waits for the page. A guest without Linux reports exceptions.
		{
			registers "$name"
			grep RIP= "$tmp/$name.log"
			grep exception "$tmp/$name.serial"
		} | tee "$tmp/registers"
		show_threads "${!pid}"
		# A guest with a disk loads modules, so there the registers are no evidence.
		if [ ! "${guest_options-}" ] && [ ! "$failed" ] &&
		   fault=$(emulator_registers_fault "$tmp/registers"); then
			emulator_void "$fault" "a vCPU of the guest '$name' is at an address of the host's kernel" >&3
		fi
	done 2>/dev/null
}

# show_threads PID - of each thread of the process, what it is and where in the kernel it waits
show_threads()
{
	local task

	for task in "/proc/$1/task"/*; do
		echo "$(< "$task/comm"): $(awk '/^State:/ { print $2, $3 }' "$task/status")," \
			"$(awk '{ sub(/\+.*/, "", $2); printf " %s", $2 }' "$task/stack")"
	done
}

registers()
{
	qmp "$1" human-monitor-command '{"command-line":"info registers -a"}' |
		sed 's/\\r\\n/\n/g' | grep -E 'CPU#|RIP|PC='
}

# source_comes_up COMMAND... - the test that the source guest runs, which every scenario begins with.
# A QEMU that has ended is a failure; a guest that does not come up makes the run void (no_source).
source_comes_up()
{
	local status=0

	"$@" >"$tmp/check.out" 2>&1 || status=$?
	if [ "$status" -ne 0 ]; then
		examine_failure >>"$tmp/check.out"
		if [ ! "$failed" ] && kill -0 "${source_pid-}" 2>/dev/null; then
			sed 's/^/# /' "$tmp/check.out"
			emulator_void no_source "$(tail -n 1 "$tmp/source.serial" | tr -d '\r')"
		fi
	fi
	ok "$status" the_source_guest_runs "$tmp/check.out"
	[ "$status" -eq 0 ] || finish
}

# guest_start NAME MEMORY [OPTION]... - a QEMU with a guest; its serial port is $tmp/NAME.serial
#
# nopvspin: a vCPU may be kicked out of a paravirtual spinlock and stopped between the kick and its
# HLT. KVM's state does not say so (pv_unhalted), so the vCPU is not kicked in the VMM that takes
# over. Two vCPUs on two emulated processors meet that now and then, so guests here spin.
#
# A guest that QEMU resets (triple fault on x86) would begin anew and find nothing wrong, so its
# QEMU ends instead.
guest_start()
{
	local name=$1 memory=$2 vmm_size=${memory_mib}M append=
	local -a program=(-kernel "$top/$build/selftests/guest.bare")
	shift 2

	if [ "$guest_kind" = linux ]; then
		program=(-kernel "$guest_kernel" -initrd "$top/$build/selftests/guest.cpio.gz")
		append="console=$vmm_console quiet loglevel=3 iommu=off mitigations=off nopvspin"
	fi

	rm -f "$tmp/$name.serial"
	guests[$name]=1
	vmm_start "$name" "$memory" -accel kvm -cpu host -smp 2 -no-reboot \
		-serial "file:$tmp/$name.serial" "${program[@]}" \
		-append "$append guest.mib=$guest_mib guest.rewrite=${GUEST_REWRITE:-8} ${guest_options-}" \
		"$@"
}

# needs_soft_dirty - skips a scenario for which the kernel must mark pages that were written to
needs_soft_dirty()
{
	[ "$arch" = x86 ] || skip_all "no soft-dirty bits on this architecture"
}

# source_start [OPTION]...
source_start()
{
	guest_start source "mem-path=$source_ram,share=on" "$@" &&
	within 100 guest_beyond source 0 && guest_clean source
}

# destination_start [OPTION]... - its region is private, or shared with destination_share=on
destination_start()
{
	guest_start destination "mem-path=/dev/postcopy,share=${destination_share:-off}" \
		-incoming defer "$@"
}

# migrate FROM TO [SEND-OPTION]... - begin to move the guest, with recv_rate=RATE at that rate
migrate()
{
	local from=$1 to=$2
	shift 2

	recv_start "$to" "unix:$tmp/control" ${recv_rate:+--rate "$recv_rate"} --json &&
	send_start "$from" "unix:$tmp/control" "$@" --json
}

# migrated FROM TO [SEND-OPTION]... - the same, to the end
migrated()
{
	migrate "$@" && both_succeed
}

# summary send|recv FILTER - a jq filter of what that umig has said last
summary()
{
	grep '"summary"' "$tmp/$1.out" | tail -n 1 | jq -e "$2"
}

# show_summaries - as comments
show_summaries()
{
	grep -h '"summary"' "$tmp/send.out" "$tmp/recv.out" | sed 's/^/# /'
}

# resumed - the guest has been started at the destination
resumed()
{
	has_line "$tmp/recv.out" '"resumed"'
}

# present - pages in the destination's region
present()
{
	region_of "$destination_pid" present
}

# arriving - more pages come
arriving()
{
	local now

	now=$(present) && within 60 present_beyond "$destination_pid" "$now"
}

# threads_wait - for pages of the destination's region
threads_wait()
{
	[ "$(region_of "$destination_pid" requests)" -gt 0 ]
}

# still_waiting_after_kill HELPER SERVER... - kills the helper while threads of the guest wait for it.
# They are bound to, because the servers are stopped. Nobody serves then, so they still wait.
still_waiting_after_kill()
{
	local helper=$1
	shift

	arriving || return
	kill -STOP "$@"
	within 60 threads_wait || { "$umig" list; return 1; }
	kill -9 "$helper"
	wait "$helper" 2>/dev/null
	kill -CONT "$@"
	threads_wait && [ "$(region_of "$destination_pid" state)" = '"detached"' ] &&
	kill -0 "$destination_pid"
}

# guest_rounds NAME - how many rounds of verification the guest has reported there
guest_rounds()
{
	grep -c 'guest: round' "$tmp/$1.serial" 2>/dev/null || true
}

guest_beyond()
{
	[ "$(guest_rounds "$1")" -gt "$2" ]
}

# guest_goes_on NAME - two more rounds, and nothing has ever been wrong
guest_goes_on()
{
	local before

	before=$(guest_rounds "$1")
	within 60 guest_beyond "$1" $((before + 1)) && guest_clean "$1"
}

guest_clean()
{
	grep 'guest: round\|guest: wrong' "$tmp/$1.serial" | tail -n 1 | tr -d '\r'
	grep -q 'wrong bytes 0.$' "$tmp/$1.serial" &&
		! grep -q 'wrong page\|wrong bytes [1-9]\|panic\|Oops\|BUG' "$tmp/$1.serial"
}

# mapped_shared PID - its guest RAM came into a shared region and is plain shared memory: the
# driver's mark (VM_DONTEXPAND, de) is gone. A vhost-user back end maps some of it twice.
mapped_shared()
{
	awk -v want=$((memory_mib * 1024)) '
	/^[0-9a-f]+-[0-9a-f]+ / { ram = $6 == "/postcopy" }
	ram && $1 == "Size:" { size += $2 }
	ram && $1 == "Rss:" { rss += $2 }
	ram && $1 == "VmFlags:" && / de( |$)/ { marked = 1 }
	END {
		printf "size %d kB, resident %d kB, marked %d\n", size, rss, marked
		exit !(size >= want && rss > 0 && !marked)
	}' "/proc/$1/smaps"
}

# mapped_anonymous PID - its guest RAM is what a private mapping of /dev/zero is
mapped_anonymous()
{
	awk -v want=$((memory_mib * 1024)) '
	/^[0-9a-f]+-[0-9a-f]+ / { zero = $6 == "/dev/zero" }
	zero && $1 == "Size:" { size += $2 }
	zero && $1 == "Rss:" { rss += $2 }
	zero && $1 == "Anonymous:" { anonymous += $2 }
	END {
		printf "size %d kB, resident %d kB, anonymous %d kB\n", size, rss, anonymous
		exit !(size == want && rss > 0 && anonymous == rss)
	}' "/proc/$1/smaps"
}

[ -x "$umig" ] || skip_all "umig is not built"
guest_kernel=$(scripts/kernel.sh guest image) || exit 1
if [ "$arch" = x86 ]; then
	modprobe kvm_amd 2>/dev/null || modprobe kvm_intel 2>/dev/null
fi
[ -c /dev/kvm ] || skip_all "no KVM in this machine: the test VM's CPU must have a hypervisor level"
if [ "$arch" = x86 ]; then
	# It ends after the guests: see kvm_hold.c.
	"$build/selftests/kvm_hold" >"$tmp/kvm_hold" &
	last_pid=$!
	within 20 has_line "$tmp/kvm_hold" ready || exit 1
fi
emulator_guests_run
