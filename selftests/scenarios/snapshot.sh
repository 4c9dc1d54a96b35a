#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A running guest is written into a directory and goes on. A guest starts from there, and umig
# records the pages it touches. Then two start at the same time, and these pages are read first.

# shellcheck source-path=SCRIPTDIR source=../lib/scenario.sh
. "$(dirname "$0")/../lib/scenario.sh"

snap=$tmp/snapshot
# Without soft-dirty bits the guest stands still for the whole copy.
pause=
[ "$arch" = x86 ] || pause=--pause

take()
{
	rm -rf "$snap"
	# shellcheck disable=SC2086 # an option or nothing
	"$umig" snapshot $pause --qmp "$tmp/source.qmp" --json "$snap" >"$tmp/snapshot.log" 2>&1
	local status=$?
	cat "$tmp/snapshot.log"
	return "$status"
}

# The guest stands still only while the pages are copied that it has written to since.
only_what_was_written_is_copied_twice()
{
	grep '"summary"' "$tmp/snapshot.log" |
		jq -e '.dirty_pages > 0 and .dirty_pages * 2 < .data_pages'
}

# restore NAME [OPTIONS]
restore()
{
	local name=$1 status=0
	shift

	"$umig" restore --qmp "$tmp/$name.qmp" --json "$@" "$snap" >"$tmp/$name.restore.log" 2>&1 || status=$?
	cat "$tmp/$name.restore.log"
	return "$status"
}

one_shows_what_it_touches()
{
	guest_start destination "mem-path=/dev/postcopy,share=off" -incoming defer &&
	restore destination --record 5 && [ -s "$snap/working_set.json" ]
}

both_start()
{
	local first second

	guest_start first "mem-path=/dev/postcopy,share=off" -incoming defer &&
	guest_start second "mem-path=/dev/postcopy,share=on" -incoming defer || return
	restore first --replay &
	first=$!
	restore second --replay &
	second=$!
	wait "$first" && wait "$second"
}

source_comes_up source_start
check a_snapshot_is_taken take
[ "$pause" ] || check only_what_was_written_is_copied_twice only_what_was_written_is_copied_twice
check the_source_guest_goes_on guest_goes_on source
vmm_kill source
check a_guest_starts_and_shows_what_it_touches one_shows_what_it_touches
check it_is_unharmed guest_goes_on destination
check its_memory_is_anonymous mapped_anonymous "$destination_pid"
vmm_kill destination
check two_guests_start_at_once_with_that_read_first both_start
check the_first_is_unharmed guest_goes_on first
check the_second_is_unharmed guest_goes_on second
check its_memory_is_plain_shared_memory mapped_shared "$second_pid"
grep -h '"summary"' "$tmp/snapshot.log" "$tmp"/*.restore.log | sed 's/^/# /'
finish
