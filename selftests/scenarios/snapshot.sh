#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A running guest is written into a directory and goes on; two guests start from there
# at the same time.

# shellcheck source-path=SCRIPTDIR source=lib/vmm.sh
. "$(dirname "$0")/lib/vmm.sh"

snap=/dev/shm/snapshot

take()
{
	rm -rf "$snap"
	"$umig" snapshot --qmp "$work/source.qmp" --json "$snap" >"$work/snapshot.log" 2>&1
	local status=$?
	cat "$work/snapshot.log"
	return "$status"
}

# It stood still for less than copying everything would have taken.
only_what_was_written_is_copied_twice()
{
	grep '"summary"' "$work/snapshot.log" |
		jq -e '.dirty_pages > 0 and .dirty_pages * 2 < .data_pages'
}

restore()
{
	"$umig" restore --qmp "$work/$1.qmp" --json "$snap" >"$work/$1.restore.log" 2>&1
}

both_start()
{
	local first second

	vmm_start destination "mem-path=/dev/postcopy,share=off" -incoming defer &&
	vmm_start clone "mem-path=/dev/postcopy,share=off" -incoming defer || return
	restore destination &
	first=$!
	restore clone &
	second=$!
	wait "$first" && wait "$second"
}

check the_source_guest_runs source_start
check a_snapshot_is_taken take
check only_what_was_written_is_copied_twice only_what_was_written_is_copied_twice
check the_source_guest_goes_on guest_goes_on source
kill -9 "$source_pid"
wait "$source_pid" 2>/dev/null
check two_guests_start_from_it both_start
check the_first_is_unharmed guest_goes_on destination
check the_second_is_unharmed guest_goes_on clone
check its_memory_is_anonymous mapped_anonymous "$destination_pid"
grep -h '"summary"' "$work/snapshot.log" "$work"/*.restore.log | sed 's/^/# /'
rm -rf "$snap"
finish
