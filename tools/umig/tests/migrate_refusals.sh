#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# QEMUs and regions that send and recv refuse.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_qemu.sh"

pair -S
fake_region 32 0
export UMIG_FAKE_PID=$dst_pid UMIG_FAKE_PATH=$tmp/ram
"$fake" recv --qmp "$tmp/dst.qmp" --listen "unix:$tmp/ctl" 2>"$tmp/recv.err"
[ $? = 3 ] && grep -q bytes "$tmp/recv.err"
ok $? "recv.refuses_a_region_of_another_size" "$tmp/recv.err"
"$umig" send --qmp "$tmp/dst.qmp" --to "unix:$tmp/ctl" 2>"$tmp/send.err"
[ $? = 3 ] && grep -q inmigrate "$tmp/send.err"
ok $? "send.refuses_a_guest_that_is_not_there_yet" "$tmp/send.err"
"$fake" recv --qmp "$tmp/src.qmp" --listen "unix:$tmp/ctl" 2>"$tmp/recv.err"
[ $? = 3 ] && grep -q "incoming defer" "$tmp/recv.err"
ok $? "recv.refuses_a_guest_that_is_there" "$tmp/recv.err"
qmp src query-status >/dev/null
end_pair
finish
