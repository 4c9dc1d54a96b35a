#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# send --wait: the sender comes first and waits for the receiver, a signal or its limit.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_qemu.sh"

# --- the guest is continued while the sender waits: it runs at the destination, too
pair -S
send_start src "unix:$tmp/ctl" --wait 30
within 10 has_line "$tmp/send.err" "nobody listens on .* yet"
ok $? "send.says_that_it_waits" "$tmp/send.err"
qmp src cont >/dev/null
recv_start dst "unix:$tmp/ctl"
both_succeed && vmm_is dst running
ok $? "send.waits_until_recv_listens" "$tmp/send.err"
end_pair

# --- a signal ends the wait and the source is as it was
pair
send_start src "unix:$tmp/ctl" --wait 30
within 10 has_line "$tmp/send.err" "nobody listens on .* yet"
end TERM "$send_pid"
[ $? = 6 ] && vmm_is src running
ok $? "send.wait_is_ended_by_a_signal" "$tmp/send.err"
# Another client has stopped the guest meanwhile: send leaves it stopped.
rm -f "$tmp/send.err"
send_start src "unix:$tmp/ctl" --wait 30
within 60 has_line "$tmp/send.err" "nobody listens on .* yet"
qmp src stop >/dev/null
end TERM "$send_pid"
[ $? = 6 ] && vmm_is src paused && has_line "$tmp/send.err" "the source guest is paused;"
ok $? "send.leaves_a_guest_alone_that_somebody_else_has_stopped" "$tmp/send.err"
qmp src cont >/dev/null
end_pair
finish
