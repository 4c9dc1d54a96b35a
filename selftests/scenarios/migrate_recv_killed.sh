#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# umig recv, which serves the pages, is killed twice in the middle of a migration with
# faults pending; recv --resume goes on each time, and the sender with it.

# shellcheck source-path=SCRIPTDIR source=../lib/scenario.sh
. "$(dirname "$0")/../lib/scenario.sh"

starts()
{
	recv_start destination "unix:$tmp/control" --json --rate 4M &&
	send_start source "unix:$tmp/control" --json && within 60 resumed
}

kill_in_the_middle()
{
	local servers

	mapfile -t servers < <(pgrep -f "nbdkit.*$source_ram")
	still_waiting_after_kill "$recv_pid" "${servers[@]}" && kill -0 "$send_pid"
}

goes_on()
{
	local before

	before=$(present)
	recv_start destination "unix:$tmp/control" --json --resume "$@" &&
	within 60 present_beyond "$destination_pid" "$before"
}

source_comes_up source_start
check the_destination_waits destination_start
check the_guest_is_resumed_at_the_destination starts
check threads_wait_when_the_receiver_is_killed kill_in_the_middle
check another_receiver_goes_on goes_on --rate 4M
check they_wait_again_when_that_is_killed kill_in_the_middle
check a_third_receiver_goes_on goes_on --rate 8M
"$umig" set --pid "$recv_pid" --rate 0
check it_delivers_everything wait "$recv_pid"
check the_sender_hears_of_it wait "$send_pid"
check the_guest_is_unharmed guest_goes_on destination
check its_memory_is_anonymous mapped_anonymous "$destination_pid"
tail -n 1 "$tmp/recv.out" | sed 's/^/# recv: /'
finish
