# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# For the test scripts: send and recv with two stock QEMUs. The destination's /dev/postcopy is a
# file here, so the guest is paused where contents are compared.

if ! command -v qemu-system-x86_64 >/dev/null; then
	skip "$(basename "$0" .sh)" "qemu-system-x86_64 is not installed"
	finish
fi

qmp() {
	python3 - "$@" <<'PY'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
s.connect(sys.argv[1])
f = s.makefile("rw")
f.readline()
def cmd(**c):
    f.write(json.dumps(c)); f.flush()
    while True:
        r = json.loads(f.readline())
        if "event" not in r:
            return r
cmd(execute="qmp_capabilities")
r = cmd(execute=sys.argv[2], arguments=dict(a.split("=", 1) for a in sys.argv[3:]))
print(json.dumps(r.get("return", r)))
PY
}

run_state() { qmp "$1" query-status | grep -q "\"status\": \"$2\""; }

# qemu NAME RAMFILE [ARGUMENTS]
qemu() {
	local name=$1 file=$2
	shift 2
	# vapic reads guest RAM while it is loaded; a file cannot make it wait as a region does.
	rm -f "$tmp/$name.log"
	qemu-system-x86_64 -accel tcg -machine pc,memory-backend=r0 -display none -nodefaults \
		-global apic.vapic=off \
		-object "memory-backend-file,id=r0,size=64M,mem-path=$file,share=on" -m 64M \
		-qmp "unix:$tmp/$name.qmp,server=on,wait=off" \
		-qmp "unix:$tmp/$name.test,server=on,wait=off" "$@" \
		>"$tmp/$name.log" 2>&1 &
	started+=("$!")
	qemu_pid=$!
	wait_until 60 qmp "$tmp/$name.test" query-status
}

# pair [SOURCE ARGUMENTS]: a source with an image in its RAM and a destination that waits.
pair() {
	fake_region 64 0
	rm -f "$tmp"/*.qmp "$tmp"/*.test "$tmp"/ctl "$tmp"/src.ram
	make_image "$tmp/src.ram" 64
	qemu src "$tmp/src.ram" "$@"
	src_pid=$qemu_pid
	truncate -s 64M "$tmp/ram"
	qemu dst "$tmp/ram" -incoming defer
	dst_pid=$qemu_pid
	export UMIG_FAKE_PID=$dst_pid UMIG_FAKE_PATH=$tmp/ram
}

end_pair() {
	kill -9 "$src_pid" "$dst_pid" 2>/dev/null
	wait "$src_pid" "$dst_pid" 2>/dev/null
}

# recv_start ADDRESS [OPTIONS]
recv_start() {
	local address=$1
	shift
	rm -f "$tmp/recv.out" "$tmp/recv.err"
	"$fake" recv --qmp "$tmp/dst.qmp" --listen "$address" "$@" >"$tmp/recv.out" 2>"$tmp/recv.err" &
	recv_pid=$!
	started+=("$!")
	wait_until 60 has_line "$tmp/recv.err" "waiting for the sender"
}

send_run() {
	timeout 60 "$umig" send --qmp "$tmp/src.qmp" "$@" >"$tmp/send.out" 2>"$tmp/send.err"
	local ret=$?
	# A receiver nobody comes to would be waited for in vain.
	if [ $ret != 0 ] && [ -n "$recv_pid" ]; then kill -TERM "$recv_pid" 2>/dev/null; fi
	return $ret
}

# send_start [OPTIONS]: to $tmp/ctl
send_start() {
	rm -f "$tmp/send.out" "$tmp/send.err"
	"$umig" send --qmp "$tmp/src.qmp" --to "unix:$tmp/ctl" "$@" >"$tmp/send.out" 2>"$tmp/send.err" &
	send_pid=$!
	started+=("$send_pid")
}

# half_way [OPTIONS of both]: a pair in the middle of its migration
half_way() {
	pair -S
	recv_start "unix:$tmp/ctl" --rate 1M "$@"
	send_start "$@"
	wait_until 20 fake_has_pages 9000
}

recv_kill() {
	kill -9 "$recv_pid"
	wait "$recv_pid" 2>/dev/null
}

# Both sides succeed, and every page is there once.
both_finish() {
	local code rcode
	wait "$recv_pid"
	rcode=$?
	wait "$send_pid"
	code=$?
	[ $code = 0 ] && [ $rcode = 0 ] && fake_is_whole "$tmp/src.ram"
}
