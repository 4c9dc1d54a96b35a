#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Source and destination have addresses of their own and a network between them: a round
# trip of 4 ms, a packet in a hundred lost, some out of order. After the switchover the
# link is cut for longer than TCP waits; then umig is killed on both sides at once.

# shellcheck source-path=SCRIPTDIR source=lib/vmm.sh
. "$(dirname "$0")/lib/vmm.sh"

command -v tc >/dev/null || skip "iproute2 is not installed"

# In front of what runs on one of the hosts; a function would be a process of its own, and
# that would be killed.
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

receiver()
{
	$on_destination "$umig" recv --qmp "$work/destination.qmp" --listen tcp:10.9.9.2:7000 \
		--json "$@" >>"$work/recv.log" 2>&1 &
	recv=$!
	within 20 listens
}

listens()
{
	$on_destination ss -Hltn | grep -q ':7000 '
}

starts()
{
	receiver --rate 2M || return
	$on_source "$umig" send --qmp "$work/source.qmp" --to tcp:10.9.9.2:7000 --json \
		>"$work/send.log" 2>&1 &
	send=$!
	within 60 grep -q '"resumed"' "$work/recv.log"
}

# shellcheck disable=SC2154 # destination_pid: vmm_start sets it
present()
{
	region_of "$destination_pid" present
}

present_beyond()
{
	[ "$(present)" -gt "$1" ]
}

arriving()
{
	within 60 present_beyond "$(present)"
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
	kill -0 "$recv" && kill -0 "$send" && kill -0 "$destination_pid"
}

mended_link_goes_on()
{
	ip -netns source link set wire up
	within 60 present_beyond "$before" && kill -0 "$recv" && kill -0 "$send"
}

both_are_killed()
{
	kill -9 "$send" "$recv"
	wait "$send" "$recv" 2>/dev/null
	[ "$(region_of "$destination_pid" state)" = '"detached"' ] &&
	! vmm_runs source && kill -0 "$destination_pid"
}

# As the runbook says: the source's half is its RAM file, the destination's its region.
a_third_finishes()
{
	$on_source "$umig" serve --file /dev/shm/source.ram --listen tcp:10.9.9.1:7001 \
		>"$work/serve.out" 2>"$work/serve.log" &
	serve=$!
	within 20 grep -q nbd: "$work/serve.out" || return
	$on_destination "$umig" pull --pid "$destination_pid" --from "$(cat "$work/serve.out")" \
		--connections 4 --json >"$work/pull.log" 2>&1 || return
	kill "$serve"
}

check two_hosts_have_a_network_between_them network
check the_source_guest_runs source_start
check the_destination_waits destination_start
check the_guest_is_resumed_at_the_destination starts
check its_pages_arrive arriving
check a_cut_is_noticed_and_ends_nothing cut_is_noticed
check it_goes_on_when_the_link_is_mended mended_link_goes_on
check killing_umig_on_both_sides_at_once_leaves_both_halves both_are_killed
check a_third_umig_delivers_everything a_third_finishes
check the_guest_is_unharmed guest_goes_on destination
check its_memory_is_anonymous mapped_anonymous "$destination_pid"
tail -n 1 "$work/pull.log" | sed 's/^/# pull: /'
finish
