#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A stock QEMU guest moves by postcopy while it computes, and the module can be
# unloaded under the running VMM afterwards.

# shellcheck source-path=SCRIPTDIR source=../lib/scenario.sh
. "$(dirname "$0")/../lib/scenario.sh"

unloads_while_the_vmm_lives()
{
	kill -0 "$destination_pid" && rmmod postcopy && guest_goes_on destination
}

source_comes_up source_start
check the_destination_waits eval 'destination_start && ! vmm_runs destination'
check send_and_recv_succeed migrated source destination
check the_guest_is_unharmed guest_goes_on destination
check the_source_stays_stopped eval '! vmm_runs source'
check its_memory_is_anonymous mapped_anonymous "$destination_pid"
check the_module_unloads_while_the_vmm_lives unloads_while_the_vmm_lives
insmod "$POSTCOPY_MODULE"
show_summaries
finish
