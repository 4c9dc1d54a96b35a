#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Hybrid migration: most pages travel while the source guest computes and writes, and
# of those it has written to since only the numbers travel at the switchover.

# shellcheck source-path=SCRIPTDIR source=lib/vmm.sh
. "$(dirname "$0")/lib/vmm.sh"

# The guest writes all the time, so there is always something to follow; but far less
# than what it has.
few_pages_follow()
{
	summary send '.dirty_pages > 0 and .dirty_pages * 2 < .data_pages'
}

in_rounds()
{
	migrated source destination --precopy --rounds 3 &&
	grep -c 'the guest stood still' "$work/send.log" | grep -qx 2 &&
	summary recv '.digest_checked and .converted'
}

refused_with_swap()
{
	modprobe zram && echo 16M >/sys/block/zram0/disksize && mkswap /dev/zram0 &&
	swapon /dev/zram0 || return
	migrate source destination --precopy
	wait "$send"
	[ $? -eq 3 ] && grep swap "$work/send.log" && vmm_runs source
	local status=$?
	swapoff /dev/zram0
	kill "$recv"
	wait "$recv"
	kill -9 "$destination_pid"
	wait "$destination_pid"
	rm -f "$work/control" "$work/destination.qmp"
	return "$status"
}

check the_source_guest_runs source_start
check the_destination_waits destination_start
check refused_if_there_is_swap refused_with_swap
check another_destination_waits destination_start
check it_completes_in_rounds in_rounds
check few_pages_follow_by_postcopy few_pages_follow
check the_guest_is_unharmed guest_goes_on destination
check its_memory_is_anonymous mapped_anonymous "$destination_pid"
grep -h '"summary"\|stood still\|written to' "$work/send.log" | sed 's/^/# /'
finish
