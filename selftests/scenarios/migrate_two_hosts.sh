#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Source and destination have addresses of their own and a network between them. A round trip
# takes 4 ms, a packet in a hundred is lost, some come out of order. After the switchover the
# link is cut for longer than TCP waits. Then umig is killed on both sides at once.

# shellcheck source-path=SCRIPTDIR source=../lib/scenario.sh
. "$(dirname "$0")/../lib/scenario.sh"

command -v tc >/dev/null || skip_all "iproute2 is not installed"

# umig runs behind these words. They are no function, because a function in the background would be
# a process of its own, and the tests would kill that.
# shellcheck disable=SC2034 # for send_start and serve_start
on_source="ip netns exec source"
on_destination="ip netns exec destination"

# host NAME ADDRESS - one end of the link
host()
{
	ip -netns "$1" link set lo up &&
	ip -netns "$1" address add "$2/24" dev wire &&
	ip -netns "$1" link set wire up &&
	tc -netns "$1" qdisc add dev wire root netem delay 2ms loss 1% reorder 5%
}

network()
{
	ip netns add source && ip netns add destination || return
	ip link add wire netns source type veth peer name wire netns destination &&
	host source 10.9.9.1 && host destination 10.9.9.2
}

starts()
{
	recv_start destination tcp:10.9.9.2:7000 --json --rate 2M &&
	send_start source tcp:10.9.9.2:7000 --json && within 60 resumed
}

says_that_it_is_lost()
{
	"$umig" status --json | jq -e 'any(.[]; (.source_lost_seconds // 0) > 0)'
}

cut_is_noticed()
{
	ip -netns source link set wire down
	within 60 says_that_it_is_lost || return
	"$umig" status
	before=$(present)
	kill -0 "$recv_pid" && kill -0 "$send_pid" && kill -0 "$destination_pid"
}

mended_link_goes_on()
{
	ip -netns source link set wire up
	within 60 present_beyond "$destination_pid" "$before" && kill -0 "$recv_pid" && kill -0 "$send_pid"
}

both_are_killed()
{
	kill -9 "$send_pid" "$recv_pid"
	wait "$send_pid" "$recv_pid" 2>/dev/null
	[ "$(region_of "$destination_pid" state)" = '"detached"' ] &&
	! vmm_runs source && kill -0 "$destination_pid"
}

# As the runbook says: the source's half is in its RAM file, the destination's in its region.
a_third_finishes()
{
	serve_start --file "$source_ram" --listen tcp:10.9.9.1:7001 || return
	$on_destination "$umig" pull --pid "$destination_pid" --from "$uri" \
		--connections 4 --json >"$tmp/pull.log" 2>&1 || return
	serve_stop
}

check two_hosts_have_a_network_between_them network
source_comes_up source_start
check the_destination_waits destination_start
check the_guest_is_resumed_at_the_destination starts
check its_pages_arrive arriving
check a_cut_is_noticed_and_ends_nothing cut_is_noticed
check it_goes_on_when_the_link_is_mended mended_link_goes_on
check killing_umig_on_both_sides_at_once_leaves_both_halves both_are_killed
check a_third_umig_delivers_everything a_third_finishes
check the_guest_is_unharmed guest_goes_on destination
check its_memory_is_anonymous mapped_anonymous "$destination_pid"
tail -n 1 "$tmp/pull.log" | sed 's/^/# pull: /'
finish
