#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The process that serves the pages is killed twice in the middle of a migration,
# and the NBD server once: the guest waits and never sees a wrong byte. The region is
# shared, so what the killed had received was in place already.

# shellcheck source-path=SCRIPTDIR source=lib/vmm.sh
. "$(dirname "$0")/lib/vmm.sh"

# shellcheck disable=SC2034 # for destination_start
destination_share=on
pages=$work/pages

# Not nbdkit: 1.32 aborts when it loses its client while it writes to it.
serve()
{
	rm -f "$pages"
	qemu-nbd --read-only --format raw --persistent --shared 8 --socket "$pages" \
		/dev/shm/source.ram >"$work/serve.log" 2>&1 &
	server=$!
	within 60 test -S "$pages"
}

pull()
{
	"$umig" pull --wait --pid "$destination_pid" --from "nbd+unix:///?socket=$pages" \
		--json "$@" >>"$work/pull.log" 2>&1 &
	pull=$!
}

# The device state alone, so that the helper is a process of its own. No page may be
# pulled before the source has stopped.
switchover()
{
	local ignore='{"capabilities":[{"capability":"x-ignore-shared","state":true}]}'
	local where="{\"uri\":\"unix:$work/state\"}"

	qmp source migrate-set-capabilities "$ignore"
	qmp destination migrate-set-capabilities "$ignore"
	qmp destination migrate-incoming "$where"
	qmp source stop
	pull --rate 4M
	qmp source migrate "$where"
	within 60 loaded && qmp destination cont && vmm_runs destination
}

loaded()
{
	qmp destination query-status | grep -q '"status": "paused"'
}

waits()
{
	[ "$(region_of "$destination_pid" requests)" -gt 0 ]
}

present_beyond()
{
	[ "$(region_of "$destination_pid" present)" -gt "$1" ]
}

# The helper dies while threads of the guest wait for it. With the server stopped
# they are bound to.
kill_in_the_middle()
{
	local present

	present=$(region_of "$destination_pid" present) &&
	within 60 present_beyond "$present" || return
	kill -STOP "$server"
	within 60 waits || { "$umig" list; return 1; }
	kill -9 "$pull"
	wait "$pull" 2>/dev/null
	kill -CONT "$server"
	# Nobody serves: they still wait.
	waits && [ "$(region_of "$destination_pid" state)" = '"detached"' ] &&
	kill -0 "$destination_pid"
}

server_restarted()
{
	present=$(region_of "$destination_pid" present)
	kill -9 "$server"
	wait "$server" 2>/dev/null
	serve && within 60 present_beyond "$present" && kill -0 "$pull"
}

check the_source_guest_runs source_start
check the_destination_waits destination_start
check pages_are_served serve
check the_destination_starts switchover
check threads_wait_when_the_helper_is_killed kill_in_the_middle
pull --rate 4M
check they_wait_again_when_the_second_helper_is_killed kill_in_the_middle
pull --rate 8M
check the_third_goes_on_when_the_server_comes_back server_restarted
"$umig" set --pid "$pull" --rate 0
check it_delivers_everything wait "$pull"
check the_guest_is_unharmed guest_goes_on destination
check its_memory_is_plain_shared_memory mapped_shared "$destination_pid"
tail -n 1 "$work/pull.log" | sed 's/^/# pull: /'
finish
