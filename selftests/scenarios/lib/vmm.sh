# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# For scenarios with stock QEMUs, run inside the test VM: sourced, it checks that
# KVM is there, makes a scratch directory in $work, and on exit kills what was
# started. A scenario prints TAP with check() and ends with finish().

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../../.." || exit 1

umig=$PWD/tools/umig/umig
guest=$PWD/selftests/guest/guest.cpio.gz
memory_mib=${MEMORY_MIB:-512}	# of each guest
guest_mib=${GUEST_MIB:-128}	# of these, what the guest works on
work=$(mktemp -d /tmp/scenario.XXXXXX)
nr_checks=0
kvm_hold_pid=

skip()
{
	echo "$*"
	exit 4
}

cleanup()
{
	local log

	# shellcheck disable=SC2046 # one word per process
	kill -9 $(jobs -p | grep -vx "$kvm_hold_pid") 2>/dev/null
	# Last of all: see kvm_hold.c.
	while [ "$(jobs -rp | wc -l)" -gt 1 ]; do wait -n 2>/dev/null; done
	kill -9 "$kvm_hold_pid" 2>/dev/null
	wait 2>/dev/null
	rm -f /dev/shm/source.ram
	for log in "$work"/*.log; do
		[ "${failed-}" ] && echo "# ${log##*/}:" && grep -v 'guest: tick' "$log" | tail -n 15 | sed 's/^/#   /'
	done
	rm -rf "$work"
}
trap cleanup EXIT

# check NAME COMMAND... - one test: does the command succeed?
check()
{
	local name=$1
	shift

	nr_checks=$((nr_checks + 1))
	if "$@" >"$work/check.out" 2>&1; then
		echo "ok $nr_checks - $name"
	else
		sed 's/^/# /; $a\' "$work/check.out"
		guests_where | sed 's/^/# /'
		echo "not ok $nr_checks - $name"
		failed=y
		# A source that does not start has nothing to do with /dev/postcopy.
		[ "$name" != the_source_guest_runs ] || spoilt source
		[ ! -e "$work/spoilt" ] || exit 1
	fi
}

finish()
{
	echo "1..$nr_checks"
	[ ! "${failed-}" ]
	exit
}

# within SECONDS COMMAND... - succeeds as soon as the command does
within()
{
	local end=$((SECONDS + $1))
	shift

	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.05
	done
}

# A vCPU that is to be kicked out of a paravirtual spinlock, and is stopped between the kick and its
# HLT, is not kicked in the VMM that takes over: KVM's state has no word of it (pv_unhalted). Two
# vCPUs on two emulated processors meet that now and then, so guests here spin (nopvspin).

# vmm_start NAME MEMORY [QEMU-OPTION]... - its QMP socket is $work/NAME.qmp, the
# guest's serial port $work/NAME.serial, its process $NAME_pid
vmm_start()
{
	local name=$1 memory=$2
	shift 2

	qemu-system-x86_64 -name "$name" -nodefaults -no-user-config -display none \
		-accel kvm -cpu host -smp 2 -m "${memory_mib}M" \
		-object "${memory_backend:-memory-backend-file},id=ram,size=${memory_mib}M,$memory" \
		-machine pc,memory-backend=ram \
		-serial "file:$work/$name.serial" \
		-qmp "unix:$work/$name.qmp,server=on,wait=off" \
		-kernel "$guest_kernel" -initrd "$guest" \
		-append "console=ttyS0 quiet loglevel=3 iommu=off mitigations=off nopvspin guest.mib=$guest_mib guest.rewrite=${GUEST_REWRITE:-8} ${guest_options-}" \
		"$@" >"$work/$name.log" 2>&1 &
	printf -v "${name}_pid" %s $!
	within 60 vmm_answers "$name"
}

# source_start [QEMU-OPTION]...
source_start()
{
	vmm_start source mem-path=/dev/shm/source.ram,share=on "$@" &&
	within 100 guest_beyond source 0 && guest_clean source
}

# destination_start [QEMU-OPTION]... - its region is private, or shared with destination_share=on
destination_start()
{
	vmm_start destination "mem-path=/dev/postcopy,share=${destination_share:-off}" -incoming defer "$@"
}

# migrate FROM TO [SEND-OPTION]... - begin to move the guest, with recv_rate=RATE at that rate;
# $send and $recv log to $work/send.log and $work/recv.log
migrate()
{
	local from=$1 to=$2
	shift 2

	rm -f "$work/control"
	"$umig" recv --qmp "$work/$to.qmp" --listen "unix:$work/control" \
		${recv_rate:+--rate "$recv_rate"} --json >"$work/recv.log" 2>&1 &
	recv=$!
	within 60 test -S "$work/control" || return
	"$umig" send --qmp "$work/$from.qmp" --to "unix:$work/control" "$@" \
		--json >"$work/send.log" 2>&1 &
	send=$!
}

# migrated FROM TO [SEND-OPTION]... - the same, to the end
migrated()
{
	migrate "$@" && wait "$send" && wait "$recv"
}

# summary send|recv FILTER - of the last line of that log
summary()
{
	grep -h '"summary"' "$work/$1.log" | tail -n 1 | jq -e "$2"
}

# qmp NAME COMMAND [ARGUMENTS] - one QMP command, prints the answer. The connection stays until
# that is there: QEMU forgets what somebody who has gone has asked for.
qmp()
{
	local answers=$work/$1.answers

	: >"$answers"
	{
		printf '{"execute":"qmp_capabilities"}{"execute":"%s"%s}\n' "$2" "${3:+,\"arguments\":$3}"
		# An empty line means nothing to QEMU, and ends this if socat has ended.
		until has_answers "$answers" 2 || ! echo; do sleep 0.05; done
	} | timeout 10 socat -t 0.1 - "UNIX-CONNECT:$work/$1.qmp" >"$answers"
	grep '^{"return"\|^{"error"' "$answers" | sed -n 2p
}

# has_answers FILE NUMBER
has_answers()
{
	[ "$(grep -c '^{"return"\|^{"error"' "$1")" -ge "$2" ]
}

vmm_answers()
{
	[ -S "$work/$1.qmp" ] && qmp "$1" query-status | grep -q '"status"'
}

vmm_runs()
{
	qmp "$1" query-status | grep -q '"running": true'
}

# guest_rounds NAME - how many rounds of verification the guest has reported there
guest_rounds()
{
	grep -c 'guest: round' "$work/$1.serial" 2>/dev/null || true
}

# guest_goes_on NAME - two more rounds, and nothing has ever been wrong
guest_goes_on()
{
	local before

	before=$(guest_rounds "$1")
	within 60 guest_beyond "$1" $((before + 1)) && guest_clean "$1"
}

registers()
{
	qmp "$1" human-monitor-command '{"command-line":"info registers -a"}' |
		sed 's/\\r\\n/\n/g' | grep -E 'CPU#|RIP'
}

# spoilt NAME - it is the emulator's fault: vm.sh reads that and starts again
spoilt()
{
	echo "<3>selftests: the emulator has spoilt a vCPU of the $1" >/dev/kmsg
	touch "$work/spoilt"
}

# guests_where - what the guests are doing. One of QEMU 7.2's faults is recognised: an
# interrupt in the middle of VMRUN, and TCG stores the registers of the host as the guest's,
# which runs at an address of kvm_amd.ko then. The guest itself loads no modules.
guests_where()
{
	local name pid

	for name in source destination; do
		pid=${name}_pid
		[ -d "/proc/${!pid-}/task" ] || continue
		echo "$name: $(tail -n 1 "$work/$name.serial" | tr -d '\r')"
		qmp "$name" query-status
		registers "$name" | tee "$work/registers"
		grep -h kvm_ /proc/"${!pid}"/task/*/stack
		# With a disk it does load modules.
		if [ ! "${guest_options-}" ] && grep -q 'RIP=ffffffffc' "$work/registers"; then
			spoilt "$name"
		fi
	done 2>/dev/null
}

guest_beyond()
{
	[ "$(guest_rounds "$1")" -gt "$2" ]
}

guest_clean()
{
	grep 'guest: round\|guest: wrong' "$work/$1.serial" | tail -n 1 | tr -d '\r'
	grep -q 'wrong bytes 0.$' "$work/$1.serial" &&
		! grep -q 'wrong page\|wrong bytes [1-9]\|panic\|Oops\|BUG' "$work/$1.serial"
}

# region_of PID FIELD - of the region that the process has mapped; if it has none, 0, and it fails
region_of()
{
	"$umig" list --json | jq -e ".[] | select(.pid == $1) | .$2" || { echo 0; return 1; }
}

# mapped_shared PID - its guest RAM came into a shared region and is plain shared memory: the
# driver's mark (VM_MIXEDMAP, mm) is gone. A vhost-user back end maps some of it twice.
mapped_shared()
{
	awk -v want=$((memory_mib * 1024)) '
	/^[0-9a-f]+-[0-9a-f]+ / { ram = $6 == "/postcopy" }
	ram && $1 == "Size:" { size += $2 }
	ram && $1 == "Rss:" { rss += $2 }
	ram && $1 == "VmFlags:" && / mm( |$)/ { marked = 1 }
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

[ -x "$umig" ] || skip "tools/umig is not built"
modprobe kvm_amd 2>/dev/null || modprobe kvm_intel 2>/dev/null
guest_kernel=$(scripts/kernel.sh 6.1 image) || exit 1
[ -c /dev/kvm ] || skip "no KVM in this machine: the test VM's CPU must have SVM or VMX"
selftests/qemu/kvm_hold >"$work/kvm_hold" &
kvm_hold_pid=$!
within 20 grep -q ready "$work/kvm_hold" || exit 1
