#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# send --precopy with two stock QEMUs: pages come first, then the source stops.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_qemu.sh"

# The kernel says which pages were written to since it was asked to forget them.
has_soft_dirty_bits() {
	python3 - <<'PY'
import ctypes, mmap, struct, sys
m = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m[0] = 1
address = ctypes.addressof(ctypes.c_char.from_buffer(m))
with open("/proc/self/pagemap", "rb") as f:
    f.seek(address // 4096 * 8)
    sys.exit(not struct.unpack("Q", f.read(8))[0] >> 55 & 1)
PY
}

if ! has_soft_dirty_bits; then
	pair -S
	recv_start dst "unix:$tmp/ctl"
	send_run --to "unix:$tmp/ctl" --precopy
	[ $? = 3 ] && has_line "$tmp/send.err" "no soft-dirty bits" && vmm_is src prelaunch
	ok $? "precopy.is_refused_without_soft_dirty_bits" "$tmp/send.err"
	end_pair
	finish
fi

# --- a paused guest writes nothing, so all pages come first
pair -S
recv_start dst "unix:$tmp/ctl" --json
send_run --to "unix:$tmp/ctl" --precopy --rounds 3 --json && wait "$recv_pid" && fake_is_whole "$tmp/src.ram"
ok $? "precopy.every_page_equal_and_converted" "$tmp/send.err"
tail -1 "$tmp/recv.out" | grep -q '"digest_checked":true'
ok $? "precopy.digest_is_compared" "$tmp/recv.out"
end_pair

# --- while send waits, a process maps the guest's RAM: its writes would leave no mark
pair -S
send_start src "unix:$tmp/ctl" --precopy --wait 60
within 20 has_line "$tmp/send.err" "nobody listens"
python3 - "$tmp/src.ram" "$tmp/mapped" <<'PY' &
import mmap, signal, sys
f = open(sys.argv[1], "r+b")
m = mmap.mmap(f.fileno(), 4096)
open(sys.argv[2], "w")
signal.pause()
PY
within 20 test -e "$tmp/mapped"
recv_start dst "unix:$tmp/ctl"
wait "$send_pid"
[ $? = 3 ] && has_line "$tmp/send.err" "can write to" && vmm_is src prelaunch
ok $? "precopy.a_writer_that_comes_during_the_wait_is_seen" "$tmp/send.err"
end TERM "$recv_pid"
end_pair
finish
