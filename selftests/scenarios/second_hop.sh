#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A guest moves by postcopy three times in a row while it computes. From the first hop on
# its RAM is a shared region, which conversion makes plain shared memory, so it can leave
# again as it came.

# shellcheck source-path=SCRIPTDIR source=../lib/scenario.sh
. "$(dirname "$0")/../lib/scenario.sh"

waits_for_the_guest()
{
	guest_start "$1" mem-path=/dev/postcopy,share=on -incoming defer \
		-qmp "unix:$tmp/$1.other.qmp,server=on,wait=off" && ! vmm_runs "$1"
}

ends()
{
	kill -9 "$1" && wait "$1" 2>/dev/null
	[ $? -eq 137 ]	# killed, and not before
}

# Before all pages are there, nobody may read the memory as if they were.
refused_while_it_arrives()
{
	# shellcheck disable=SC2034 # for migrate
	local recv_rate=1M

	migrate source first || return
	within 60 resumed || return
	"$umig" send --qmp "$tmp/first.other.qmp" --to "unix:$tmp/nobody" 2>"$tmp/early.log"
	[ $? -eq 3 ] && grep 'still arriving' "$tmp/early.log" || return
	"$umig" set --pid "$recv_pid" --rate 0 && both_succeed
}

# Such memory may be in huge pages. For those the kernel does not say which were written to; on arm64
# it says that of no page.
refused_as_untracked()
{
	"$umig" "$@" 2>"$tmp/untracked.log"
	[ $? -eq 3 ] && grep 'huge pages\|soft-dirty' "$tmp/untracked.log" && vmm_runs third
}

# hop FROM TO - moves the guest, and checks what must hold afterwards
hop()
{
	local from=${1}_pid to=${2}_pid

	check "the_${2}_waits" waits_for_the_guest "$2"
	if [ "$1" = source ]; then
		check "it_cannot_leave_before_it_has_arrived" refused_while_it_arrives
	else
		check "the_guest_moves_to_the_$2" migrated "$1" "$2"
	fi
	check "the_digest_agrees_at_the_$2" summary recv '.digest_checked and .converted'
	check "the_guest_is_unharmed_at_the_$2" guest_goes_on "$2"
	check "its_memory_is_plain_shared_memory_at_the_$2" mapped_shared "${!to}"
	show_summaries
	check "the_$1_is_no_longer_needed" ends "${!from}"
	check "the_guest_goes_on_at_the_$2_without_it" guest_goes_on "$2"
}

source_comes_up source_start
hop source first
hop first second
hop second third
check precopy_from_there_is_refused \
	refused_as_untracked send --precopy --qmp "$tmp/third.qmp" --to "unix:$tmp/nobody"
check a_snapshot_of_it_while_it_runs_is_refused \
	refused_as_untracked snapshot --qmp "$tmp/third.qmp" "$tmp/snapshot"
finish
