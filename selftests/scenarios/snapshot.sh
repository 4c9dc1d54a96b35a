#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A running guest is written into a directory and goes on. A guest starts from there and
# shows what it touches; then two start at the same time, with that read ahead.

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

# restore NAME [OPTIONS]
restore()
{
	local name=$1
	shift

	"$umig" restore --qmp "$work/$name.qmp" --json "$@" "$snap" >"$work/$name.restore.log" 2>&1
}

one_shows_what_it_touches()
{
	vmm_start destination "mem-path=/dev/postcopy,share=off" -incoming defer &&
	restore destination --record 5 && [ -s "$snap/working_set.json" ]
}

both_start()
{
	local first second

	vmm_start first "mem-path=/dev/postcopy,share=off" -incoming defer &&
	vmm_start second "mem-path=/dev/postcopy,share=on" -incoming defer || return
	restore first --replay &
	first=$!
	restore second --replay &
	second=$!
	wait "$first" && wait "$second"
}

check the_source_guest_runs source_start
check a_snapshot_is_taken take
check only_what_was_written_is_copied_twice only_what_was_written_is_copied_twice
check the_source_guest_goes_on guest_goes_on source
kill -9 "$source_pid"
wait "$source_pid" 2>/dev/null
check a_guest_starts_and_shows_what_it_touches one_shows_what_it_touches
check it_is_unharmed guest_goes_on destination
check its_memory_is_anonymous mapped_anonymous "$destination_pid"
kill -9 "$destination_pid"
wait "$destination_pid" 2>/dev/null
check two_guests_start_at_once_with_that_read_first both_start
check the_first_is_unharmed guest_goes_on first
check the_second_is_unharmed guest_goes_on second
check its_memory_is_plain_shared_memory mapped_shared "$second_pid"
grep -h '"summary"' "$work/snapshot.log" "$work"/*.restore.log | sed 's/^/# /'
rm -rf "$snap"
finish
