#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Both sides were killed, or the receiver alone: serve and pull bring the rest.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_qemu.sh"

# --- both sides are killed at once: each half is still there, and a third umig finishes
half_way
end KILL "$recv_pid" "$send_pid"
fake_is_sound "$tmp/src.ram" && vmm_is src postmigrate
ok $? "resume.both_killed_at_once_leave_both_halves"
serve_start --file "$tmp/src.ram" --listen "unix:$tmp/pages"
"$fake" pull --pid "$dst_pid" --from "$uri" 2>"$tmp/pull.err" &&
	fake_is_whole "$tmp/src.ram"
ok $? "resume.serve_and_pull_finish_what_both_left" "$tmp/pull.err"
end_pair

# --- the same, finished by pull alone
half_way
recv_kill
within 20 has_line "$tmp/send.err" "umig pull"
uri=$(sed -n "s/.*--from \"\([^\"]*\)\".*/\1/p" "$tmp/send.err" | tail -1)
"$fake" pull --pid "$dst_pid" --from "$uri" 2>"$tmp/pull.err" &&
	fake_is_whole "$tmp/src.ram"
ok $? "resume.pull_alone_finishes" "$tmp/pull.err"
end TERM "$send_pid"
[ $? = 4 ]
ok $? "resume.sender_without_acknowledgement_exits_4" "$tmp/send.err"
end_pair
finish
