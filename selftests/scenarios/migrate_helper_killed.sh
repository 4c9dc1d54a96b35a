#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The process that serves the pages is killed twice in the middle of a migration,
# and the NBD server once: the guest waits and never sees a wrong byte. The region is
# shared, so pages that a killed process had received are in place already.

# shellcheck source-path=SCRIPTDIR source=../lib/scenario.sh
. "$(dirname "$0")/../lib/scenario.sh"

# shellcheck disable=SC2034 # for destination_start
destination_share=on

# nbdkit 1.32 aborts when it loses its client while it writes to it, so this is qemu-nbd.
serve()
{
	server_start qemu-nbd --read-only --format raw --persistent --shared 8 --socket "$tmp/s" \
		"$source_ram"
}

pull()
{
	"$umig" pull --wait --pid "$destination_pid" --from "nbd+unix:///?socket=$tmp/s" \
		--json "$@" >>"$tmp/pull.log" 2>&1 &
	pull_pid=$!
}

# The device state alone, so that the helper is a process of its own. No page may be
# pulled before the source has stopped.
switchover()
{
	local ignore='{"capabilities":[{"capability":"x-ignore-shared","state":true}]}'
	local where="{\"uri\":\"unix:$tmp/state\"}"

	qmp source migrate-set-capabilities "$ignore"
	qmp destination migrate-set-capabilities "$ignore"
	qmp destination migrate-incoming "$where"
	qmp source stop
	pull --rate 4M
	qmp source migrate "$where"
	within 60 vmm_is destination paused && qmp destination cont && vmm_runs destination
}

kill_in_the_middle()
{
	still_waiting_after_kill "$pull_pid" "$server_pid"
}

server_restarted()
{
	local before

	before=$(present)
	server_stop KILL
	serve && within 60 present_beyond "$destination_pid" "$before" && kill -0 "$pull_pid"
}

source_comes_up source_start
check the_destination_waits destination_start
check pages_are_served serve
check the_destination_starts switchover
check threads_wait_when_the_helper_is_killed kill_in_the_middle
pull --rate 4M
check they_wait_again_when_the_second_helper_is_killed kill_in_the_middle
pull --rate 8M
check the_third_goes_on_when_the_server_comes_back server_restarted
"$umig" set --pid "$pull_pid" --rate 0
check it_delivers_everything wait "$pull_pid"
check the_guest_is_unharmed guest_goes_on destination
check its_memory_is_plain_shared_memory mapped_shared "$destination_pid"
tail -n 1 "$tmp/pull.log" | sed 's/^/# pull: /'
finish
