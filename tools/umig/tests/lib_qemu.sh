# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# For umig's test scripts: send and recv with two stock QEMUs, called src and dst. The destination's
# /dev/postcopy is a file here, so the guest is paused where contents are compared.

command -v qemu-system-x86_64 >/dev/null || skip_all "qemu-system-x86_64 is not installed"
# shellcheck disable=SC2034 # for recv_start
receiver=$fake

# qemu NAME RAMFILE [OPTION]... - vapic reads guest RAM while QEMU loads it, and a file cannot make it
# wait as a region does.
qemu() {
	local name=$1 file=$2
	shift 2
	vmm_start "$name" "mem-path=$file,share=on" -accel tcg -global apic.vapic=off "$@"
}

# pair [SOURCE-OPTION]... - a source with an image in its RAM and a destination that waits
pair() {
	fake_region 64 0
	rm -f "$tmp/ctl" "$tmp/src.ram"
	make_image "$tmp/src.ram" 64
	qemu src "$tmp/src.ram" "$@"
	truncate -s 64M "$tmp/ram"
	qemu dst "$tmp/ram" -incoming defer
	export UMIG_FAKE_PID=$dst_pid UMIG_FAKE_PATH=$tmp/ram
}

end_pair() {
	vmm_kill src dst
}

send_run() {
	timeout 60 "$umig" send --qmp "$tmp/src.qmp" "$@" >"$tmp/send.out" 2>"$tmp/send.err"
	local ret=$?
	# Without a sender the receiver would wait for ever.
	if [ $ret != 0 ] && [ -n "$recv_pid" ]; then end TERM "$recv_pid"; fi
	return $ret
}

# half_way [OPTION]... - a pair in the middle of its migration; the options are for both sides
half_way() {
	pair -S
	recv_start dst "unix:$tmp/ctl" --rate 1M "$@"
	send_start src "unix:$tmp/ctl" "$@"
	within 20 fake_has_pages 9000
}

# Both sides succeed, and every page is there once.
both_finish() {
	both_succeed && fake_is_whole "$tmp/src.ram"
}
