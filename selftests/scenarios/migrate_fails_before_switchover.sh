#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Whatever fails before the destination has started, the source guest goes on: one
# source, one failed migration after another, and then one that succeeds.

# shellcheck source-path=SCRIPTDIR source=lib/vmm.sh
. "$(dirname "$0")/lib/vmm.sh"

destination_options=()

# receiver [TMPDIR] - start a destination and a umig that waits for the source
receiver()
{
	rm -f "$work/control" "$work"/destination.*
	destination_start "${destination_options[@]}" || return
	TMPDIR=${1-/tmp} "$umig" recv --qmp "$work/destination.qmp" \
		--listen "unix:$work/control" >"$work/recv.log" 2>&1 &
	recv=$!
	within 60 test -S "$work/control"
}

sender()
{
	"$umig" send --qmp "$work/source.qmp" --to "unix:$work/control" >"$work/send.log" 2>&1 &
	send=$!
}

# send ends with an error, and the source guest computes
failed_harmlessly()
{
	local status

	wait "$send"
	status=$?
	cat "$work/send.log"
	kill -9 "$recv" "$destination_pid" 2>/dev/null
	wait "$recv" "$destination_pid" 2>/dev/null
	[ "$status" -ne 0 ] && vmm_runs source && guest_goes_on source
}

destination_killed()
{
	receiver && kill -9 "$destination_pid" && sender && failed_harmlessly
}

# A destination that does not answer keeps the migration where it is.
connection_cut()
{
	receiver && kill -STOP "$destination_pid" && sender &&
	within 60 region_attached && kill -9 "$recv" && failed_harmlessly
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
	! "$umig" send --qmp "$work/source.qmp" --to "unix:$work/nobody" >"$work/send.log" 2>&1 &&
	cat "$work/send.log" && grep -q nobody "$work/send.log" &&
	vmm_runs source && guest_goes_on source
}

# umig needs no room on the destination's disk.
succeeds_with_full_disk()
{
	mkdir -p "$work/full" && mount -t tmpfs -o size=16k full "$work/full" || return
	dd if=/dev/zero of="$work/full/fill" bs=4k 2>/dev/null
	receiver "$work/full" && sender && wait "$send" && wait "$recv" &&
	guest_goes_on destination
	local status=$?
	umount "$work/full"
	return "$status"
}

check the_source_guest_runs source_start
check source_goes_on_if_nobody_listens nobody_listens
check source_goes_on_if_the_destination_is_killed destination_killed
check source_goes_on_if_the_connection_is_cut connection_cut
check source_goes_on_if_the_state_is_refused state_refused
check a_later_migration_succeeds_even_with_a_full_disk succeeds_with_full_disk
finish
