#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# In the first round of precopy, `umig set` tells the running umig to switch over. The
# region is shared: pages that have been received in place are dropped again.

# shellcheck source-path=SCRIPTDIR source=../lib/scenario.sh
. "$(dirname "$0")/../lib/scenario.sh"

needs_soft_dirty

in_precopy()
{
	"$umig" status --json --pid "$send_pid" |
		jq -e '.[0].phase == "precopy" and .[0].present_pages > 0'
}

runs_at_the_destination()
{
	"$umig" status --json --pid "$send_pid" |
		jq -e '.[0].phase == "serving pages" and .[0].missing_pages > 0'
}

# A second umig tells the first to switch, in the middle of the first round.
switched_by_hand()
{
	# shellcheck disable=SC2034 # for migrate
	local recv_rate=1M

	migrate source destination --precopy && within 60 in_precopy &&
	"$umig" set --pid "$send_pid" --switch && within 60 runs_at_the_destination &&
	"$umig" set --pid "$recv_pid" --rate 0 &&
	both_succeed && summary recv '.digest_checked and .demand_pages > 0'
}

# shellcheck disable=SC2034 # for destination_start
destination_share=on
source_comes_up source_start
check the_destination_waits destination_start
check it_switches_when_told switched_by_hand
check the_guest_is_unharmed guest_goes_on destination
check its_memory_is_plain_shared_memory mapped_shared "$destination_pid"
grep -h '"summary"\|written to' "$tmp/send.out" "$tmp/send.err" | sed 's/^/# /'
finish
