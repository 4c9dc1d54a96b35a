#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# send, recv and pull with the real /dev/postcopy: run as root in a VM that has loaded the module.
# The guest stands still (-S), so that its memory can be compared byte for byte.
. "$(dirname "$0")/lib.sh"

if [ ! -c /dev/postcopy ]; then
	skip "module" "/dev/postcopy is not there"
	finish
fi
mib=64

qmp() { printf '{"execute":"qmp_capabilities"}%s\n' "$2" | timeout 60 socat -t 30 - "UNIX-CONNECT:$1"; }
answers() { [ -S "$1" ] && qmp "$1" '{"execute":"query-status"}' | grep -q '"status"'; }

# qemu NAME MEMORY [ARGUMENTS]
qemu() {
	local name=$1 memory=$2
	shift 2
	rm -f "$tmp/$name".*
	rm -f "$tmp/$name.log"
	qemu-system-x86_64 -accel tcg -machine pc,memory-backend=r0 -display none -nodefaults \
		-object "memory-backend-file,id=r0,size=${mib}M,$memory" -m ${mib}M -S \
		-qmp "unix:$tmp/$name.qmp,server=on,wait=off" \
		-monitor "unix:$tmp/$name.mon,server=on,wait=off" "$@" >"$tmp/$name.log" 2>&1 &
	qemu_pid=$!
	started+=("$qemu_pid")
	wait_until 60 test -S "$tmp/$name.mon"
}

pair() {
	rm -f "$tmp/ctl"
	make_image "$tmp/ram.src" $mib
	qemu src "mem-path=$tmp/ram.src,share=on"
	src_pid=$qemu_pid
	qemu dst "mem-path=/dev/postcopy,share=off" -incoming defer
	dst_pid=$qemu_pid
}

end_pair() {
	kill -9 "$src_pid" "$dst_pid" 2>/dev/null
	wait "$src_pid" "$dst_pid" 2>/dev/null
}

recv_start() {
	rm -f "$tmp/recv.out" "$tmp/recv.err"
	"$umig" recv --qmp "$tmp/dst.qmp" --listen "unix:$tmp/ctl" "$@" >"$tmp/recv.out" 2>"$tmp/recv.err" &
	recv_pid=$!
	started+=("$recv_pid")
	wait_until 30 has_line "$tmp/recv.err" "waiting for the sender"
}

send_start() {
	rm -f "$tmp/send.out" "$tmp/send.err"
	"$umig" send --qmp "$tmp/src.qmp" --to "unix:$tmp/ctl" >"$tmp/send.out" 2>"$tmp/send.err" &
	send_pid=$!
	started+=("$send_pid")
}

# What the destination's guest has as memory, as the VMM itself reads it.
dst_is_equal() {
	rm -f "$tmp/dump"
	printf 'pmemsave 0 %d "%s"\n' $((mib << 20)) "$tmp/dump" |
		timeout 60 socat -t 20 - "UNIX-CONNECT:$tmp/dst.mon" >/dev/null
	wait_until 60 test -s "$tmp/dump"
	# The 640 KiB to 1 MiB hole of a PC is not RAM.
	cmp -n $((640 << 10)) "$tmp/dump" "$tmp/ram.src" &&
		cmp -i $((1 << 20)) "$tmp/dump" "$tmp/ram.src"
}

present() { "$umig" list --json | python3 -c "import json,sys
sys.exit(0 if any(r['present'] >= $1 for r in json.load(sys.stdin)) else 1)"; }

pair
"$umig" list >"$tmp/list" && grep -q qemu-system "$tmp/list"
ok $? "list.shows_the_region" "$tmp/list"
recv_start --json
send_start
wait "$send_pid"
code=$?
wait "$recv_pid"
rcode=$?
[ $code = 0 ] && [ $rcode = 0 ]
ok $? "migrate.exits_0_on_both_sides" "$tmp/recv.err"
sed 's/^/# /' "$tmp/send.err"
tail -1 "$tmp/recv.out" | sed 's/^/# /'
dst_is_equal
ok $? "migrate.memory_is_equal"
"$umig" list --json | grep -qx '\[\]'
ok $? "migrate.region_is_converted"
end_pair

pair
recv_start --rate 1M
send_start
wait_until 60 present 9000
kill -9 "$recv_pid"
wait "$recv_pid" 2>/dev/null
recv_start --resume --rate 1M
wait_until 60 present 11000
kill -9 "$recv_pid"
wait "$recv_pid" 2>/dev/null
recv_start --resume
wait "$recv_pid"
rcode=$?
wait "$send_pid"
code=$?
[ $code = 0 ] && [ $rcode = 0 ]
ok $? "resume.after_two_kills" "$tmp/recv.err"
dst_is_equal
ok $? "resume.memory_is_equal" "$tmp/send.err"
end_pair

pair
recv_start --rate 1M
send_start
wait_until 60 present 9000
kill -9 "$dst_pid"
wait "$recv_pid"
[ $? = 5 ]
ok $? "recv.vmm_gone_exits_5" "$tmp/recv.err"
kill -TERM "$send_pid"
wait "$send_pid"
end_pair
finish
