#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Whatever fails before the destination has started, the source guest goes on: one
# source, one failed migration after another, and then one that succeeds.

# With Linux, so that one such guest comes into a private region, too.
# shellcheck disable=SC2034 # for scenario.sh
guest_kind=linux
# shellcheck source-path=SCRIPTDIR source=../lib/scenario.sh
. "$(dirname "$0")/../lib/scenario.sh"

destination_options=()

# receiver - start a destination and a umig that waits for the source
receiver()
{
	rm -f "$tmp/control"
	destination_start "${destination_options[@]}" && recv_start destination "unix:$tmp/control"
}

sender()
{
	send_start source "unix:$tmp/control"
}

# send ends with an error, and the source guest computes
failed_harmlessly()
{
	local status

	wait "$send_pid"
	status=$?
	cat "$tmp/send.err"
	recv_kill
	vmm_kill destination
	[ "$status" -ne 0 ] && vmm_runs source && guest_goes_on source
}

destination_killed()
{
	receiver && kill -9 "$destination_pid" && sender && failed_harmlessly
}

# As long as the destination does not answer, the migration does not proceed.
connection_cut()
{
	receiver && kill -STOP "$destination_pid" && sender &&
	within 60 region_attached && kill -9 "$recv_pid" && failed_harmlessly
}

region_attached()
{
	[ "$(region_of "$destination_pid" state 2>/dev/null)" = '"attached"' ]
}

# Another machine: the device state arrives there, but cannot be loaded.
state_refused()
{
	destination_options=(-smp 1)
	receiver && sender && failed_harmlessly || return
	destination_options=()
}

nobody_listens()
{
	! "$umig" send --qmp "$tmp/source.qmp" --to "unix:$tmp/nobody" >"$tmp/send.err" 2>&1 &&
	grep nobody "$tmp/send.err" &&
	vmm_runs source && guest_goes_on source
}

# umig needs no room on the destination's disk.
succeeds_with_full_disk()
{
	mkdir -p "$tmp/full" && mount -t tmpfs -o size=16k full "$tmp/full" || return
	dd if=/dev/zero of="$tmp/full/fill" bs=4k 2>/dev/null
	TMPDIR=$tmp/full receiver && sender && both_succeed &&
	guest_goes_on destination
	local status=$?
	umount "$tmp/full"
	return "$status"
}

source_comes_up source_start
check source_goes_on_if_nobody_listens nobody_listens
check source_goes_on_if_the_destination_is_killed destination_killed
check source_goes_on_if_the_connection_is_cut connection_cut
check source_goes_on_if_the_state_is_refused state_refused
check a_later_migration_succeeds_even_with_a_full_disk succeeds_with_full_disk
finish
