#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# umig recv, which serves the pages, is killed twice in the middle of a migration with
# faults pending; recv --resume goes on each time, and the sender with it.

# shellcheck source-path=SCRIPTDIR source=lib/vmm.sh
. "$(dirname "$0")/lib/vmm.sh"

receiver()
{
	rm -f "$work/control"
	"$umig" recv --qmp "$work/destination.qmp" --listen "unix:$work/control" --json "$@" \
		>>"$work/recv.log" 2>&1 &
	recv=$!
	within 60 test -S "$work/control"
}

# shellcheck disable=SC2154 # destination_pid: vmm_start sets it
present_beyond()
{
	[ "$(region_of "$destination_pid" present)" -gt "$1" ]
}

waits()
{
	[ "$(region_of "$destination_pid" requests)" -gt 0 ]
}

starts()
{
	receiver --rate 4M || return
	"$umig" send --qmp "$work/source.qmp" --to "unix:$work/control" --json \
		>"$work/send.log" 2>&1 &
	send=$!
	within 60 grep -q '"resumed"' "$work/recv.log"
}

# With the page server stopped threads of the guest are bound to wait.
kill_in_the_middle()
{
	local present servers

	present=$(region_of "$destination_pid" present)
	within 60 present_beyond "$present" || return
	servers=$(pgrep -f 'nbdkit.*source.ram')
	# shellcheck disable=SC2086 # one word per process
	kill -STOP $servers
	within 60 waits || { "$umig" list; return 1; }
	kill -9 "$recv"
	wait "$recv" 2>/dev/null
	# shellcheck disable=SC2086
	kill -CONT $servers
	waits && [ "$(region_of "$destination_pid" state)" = '"detached"' ] &&
	kill -0 "$destination_pid" && kill -0 "$send"
}

goes_on()
{
	local present

	present=$(region_of "$destination_pid" present)
	receiver --resume "$@" && within 60 present_beyond "$present"
}

check the_source_guest_runs source_start
check the_destination_waits destination_start
check the_guest_is_resumed_at_the_destination starts
check threads_wait_when_the_receiver_is_killed kill_in_the_middle
check another_receiver_goes_on goes_on --rate 4M
check they_wait_again_when_that_is_killed kill_in_the_middle
check a_third_receiver_goes_on goes_on --rate 8M
"$umig" set --pid "$recv" --rate 0
check it_delivers_everything wait "$recv"
check the_sender_hears_of_it wait "$send"
check the_guest_is_unharmed guest_goes_on destination
check its_memory_is_anonymous mapped_anonymous "$destination_pid"
tail -n 1 "$work/recv.log" | sed 's/^/# recv: /'
finish
