#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# send, recv and pull with the real /dev/postcopy: run as root in a VM that has loaded the module.
# The guest stands still (-S), so that its memory can be compared byte for byte.
. "$(dirname "$0")/lib.sh"

[ -c /dev/postcopy ] || skip_all "/dev/postcopy is not there"

pair() {
	rm -f "$tmp/ctl"
	make_image "$tmp/ram.src" 64
	vmm_start src "mem-path=$tmp/ram.src,share=on" -accel tcg -S
	vmm_start dst "mem-path=/dev/postcopy,share=off" -accel tcg -S -incoming defer
}

end_pair() {
	vmm_kill src dst
}

# The memory of the destination's guest equals the source's. The VMM itself reads it.
dst_is_equal() {
	rm -f "$tmp/dump"
	qmp dst pmemsave "{\"val\":0,\"size\":$((64 << 20)),\"filename\":\"$tmp/dump\"}" | grep '"return"' || return
	# The 640 KiB to 1 MiB hole of a PC is not RAM.
	cmp -n $((640 << 10)) "$tmp/dump" "$tmp/ram.src" &&
		cmp -i $((1 << 20)) "$tmp/dump" "$tmp/ram.src"
}

pair
"$umig" list >"$tmp/list" && grep -q qemu-system "$tmp/list"
ok $? "list.shows_the_region" "$tmp/list"
recv_start dst "unix:$tmp/ctl" --json
send_start src "unix:$tmp/ctl"
both_succeed
ok $? "migrate.exits_0_on_both_sides" "$tmp/recv.err"
sed 's/^/# /' "$tmp/send.err"
tail -1 "$tmp/recv.out" | sed 's/^/# /'
dst_is_equal
ok $? "migrate.memory_is_equal"
"$umig" list --json | grep -qx '\[\]'
ok $? "migrate.region_is_converted"
end_pair

pair
recv_start dst "unix:$tmp/ctl" --rate 1M
send_start src "unix:$tmp/ctl"
within 60 present_beyond "$dst_pid" 9000
recv_kill
recv_start dst "unix:$tmp/ctl" --resume --rate 1M
within 60 present_beyond "$dst_pid" 11000
recv_kill
recv_start dst "unix:$tmp/ctl" --resume
both_succeed
ok $? "resume.after_two_kills" "$tmp/recv.err"
dst_is_equal
ok $? "resume.memory_is_equal" "$tmp/send.err"
end_pair

pair
recv_start dst "unix:$tmp/ctl" --rate 1M
send_start src "unix:$tmp/ctl"
within 60 present_beyond "$dst_pid" 9000
kill -9 "$dst_pid"
wait "$recv_pid"
[ $? = 5 ]
ok $? "recv.vmm_gone_exits_5" "$tmp/recv.err"
end TERM "$send_pid"
end_pair
finish
