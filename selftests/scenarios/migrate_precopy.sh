#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Hybrid migration: most pages travel while the source guest computes and writes. At the
# switchover only the numbers of the pages travel that it has written to since.

# shellcheck source-path=SCRIPTDIR source=../lib/scenario.sh
. "$(dirname "$0")/../lib/scenario.sh"

needs_soft_dirty

# The guest writes all the time, so some pages always follow, but far fewer than it has.
few_pages_follow()
{
	summary send '.dirty_pages > 0 and .dirty_pages * 2 < .data_pages'
}

in_rounds()
{
	migrated source destination --precopy --rounds 3 &&
	grep -c 'the guest stood still' "$tmp/send.err" | grep -qx 2 &&
	summary recv '.digest_checked and .converted'
}

refused_with_swap()
{
	modprobe zram && echo 16M >/sys/block/zram0/disksize && mkswap /dev/zram0 &&
	swapon /dev/zram0 || return
	migrate source destination --precopy
	wait "$send_pid"
	[ $? -eq 3 ] && grep swap "$tmp/send.err" && vmm_runs source
	local status=$?
	swapoff /dev/zram0
	recv_kill
	vmm_kill destination
	rm -f "$tmp/control"
	return "$status"
}

source_comes_up source_start
check the_destination_waits destination_start
check refused_if_there_is_swap refused_with_swap
check another_destination_waits destination_start
check it_completes_in_rounds in_rounds
check few_pages_follow_by_postcopy few_pages_follow
check the_guest_is_unharmed guest_goes_on destination
check its_memory_is_anonymous mapped_anonymous "$destination_pid"
grep -h '"summary"\|stood still\|written to' "$tmp/send.out" "$tmp/send.err" | sed 's/^/# /'
finish
