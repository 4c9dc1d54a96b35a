#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A guest moves while it uses its disk, which is another process, a stock vhost-user back end.
# The back end at the destination reads and writes guest RAM that has not arrived. Its own
# faults bring the pages, and it needs no protocol for that.

# shellcheck disable=SC2034 # for scenario.sh
guest_kind=linux
# shellcheck source-path=SCRIPTDIR source=../lib/scenario.sh
. "$(dirname "$0")/../lib/scenario.sh"

# shellcheck disable=SC2034 # for vmm_start
guest_options="guest.disk=8"
trace=/sys/kernel/tracing

# backend NAME - the process that is the disk of the guest of that name
backend()
{
	# Only one of the two guests runs at a time. The second process could not take a lock.
	qemu-storage-daemon \
		--blockdev "driver=file,node-name=disk,filename=$tmp/disk,locking=off" \
		--export "type=vhost-user-blk,id=disk,node-name=disk,writable=on,addr.type=unix,addr.path=$tmp/$1.disk" \
		>"$tmp/$1.backend.log" 2>&1 &
	printf -v "$1_backend" %s $!
	within 60 test -S "$tmp/$1.disk"
}

with_disk()
{
	disk=(-chardev "socket,id=disk,path=$tmp/$1.disk"
	      -device "vhost-user-blk-pci,chardev=disk,num-queues=1")
}

# Before anything runs, and without the names of tasks, which tracing gets from the scheduler: see
# "patching" in emulator.sh.
traces_requests()
{
	echo 0 >"$trace/options/record-cmd" &&
	echo 1 >"$trace/events/postcopy/postcopy_request/enable"
}

starts_with_a_disk()
{
	truncate -s 16M "$tmp/disk" && backend source && with_disk source &&
	source_start "${disk[@]}"
}

waits_with_a_disk()
{
	backend destination && with_disk destination &&
	guest_start destination mem-path=/dev/postcopy,share=on -incoming defer "${disk[@]}"
}

# passes_beyond NAME NUMBER - the guest has written and read back its disk more often than that
passes_beyond()
{
	[ "$(grep -c 'guest: disk pass' "$tmp/$1.serial")" -gt "$2" ]
}

# Slowly, so that the back end finds pages missing.
moves()
{
	# shellcheck disable=SC2034 # for migrate
	local recv_rate=8M

	migrate source destination &&
	within 60 resumed && within 100 asked_by_the_backend &&
	"$umig" set --pid "$recv_pid" --rate 0 && both_succeed &&
	summary recv '.digest_checked and .converted'
}

# A line of the trace begins with "COMM-THREAD ".
asked_by_the_backend()
{
	local threads

	threads=$(cd "/proc/$destination_backend/task" && echo ./*)
	threads=${threads//.\//}
	threads=${threads// /|}
	requests=$(grep -cE "^ *[^ ]*-($threads) .*postcopy_request:" "$trace/trace")
	[ "$requests" -gt 0 ]
}

disk_goes_on()
{
	local before

	before=$(grep -c 'guest: disk pass' "$tmp/destination.serial")
	within 100 passes_beyond destination $((before + 1)) && guest_clean destination &&
	grep 'guest: disk pass' "$tmp/destination.serial" | tail -n 1 | grep 'wrong bytes 0'
}

check requests_are_traced traces_requests
source_comes_up starts_with_a_disk
check it_uses_its_disk within 100 passes_beyond source 1
check the_destination_waits waits_with_a_disk
check the_guest_moves_while_it_uses_its_disk moves
check the_guest_is_unharmed guest_goes_on destination
check its_disk_has_what_it_has_written disk_goes_on
check its_memory_is_plain_shared_memory mapped_shared "$destination_pid"
check so_it_is_in_the_back_end mapped_shared "$destination_backend"
asked_by_the_backend
echo "# requests made by faults of the back end: $requests"
show_summaries
echo 0 >"$trace/events/postcopy/enable"
echo 1 >"$trace/options/record-cmd"
finish
