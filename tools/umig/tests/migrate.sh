#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# send and recv with two stock QEMUs, the whole way.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_qemu.sh"

# --- the whole way, paused guest, Unix sockets
pair -S
recv_start dst "unix:$tmp/ctl" --json
send_run --to "unix:$tmp/ctl" --json
code=$?
wait "$recv_pid"
rcode=$?
[ $code = 0 ] && [ $rcode = 0 ]
ok $? "migrate.exits_0_on_both_sides" "$tmp/recv.err"
fake_is_whole "$tmp/src.ram"
ok $? "migrate.every_page_equal_once_and_converted"
tail -1 "$tmp/recv.out" | grep -q '"digest_checked":true'
ok $? "migrate.digest_is_compared" "$tmp/recv.out"
tail -1 "$tmp/send.out" | grep -q '"downtime_ms"'
ok $? "migrate.sender_prints_a_summary" "$tmp/send.out"
vmm_is dst prelaunch
ok $? "migrate.a_guest_that_never_ran_stays_so"
end_pair

# --- over TCP, with a running guest, whose RAM changes: only the states are compared
pair
recv_start dst tcp:127.0.0.1:27901
send_run --to tcp:127.0.0.1:27901
code=$?
wait "$recv_pid"
rcode=$?
[ $code = 0 ] && [ $rcode = 0 ]
ok $? "migrate.over_tcp" "$tmp/recv.err"
vmm_is dst running
ok $? "migrate.running_guest_runs_at_the_destination" "$tmp/send.err"
vmm_is src postmigrate
ok $? "migrate.source_stays_stopped"
end_pair
finish
