#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# pull into a fake region, from page sources of other projects and from broken ones.
. "$(dirname "$0")/lib.sh"

make_image "$tmp/img" 32

uri="nbd+unix:///?socket=$tmp/s"

check_source source.nbdkit_file fake_region 32 "$tmp/img" nbdkit -f -r -U "$tmp/s" file "$tmp/img"
check_source source.umig_plugin fake_region 32 "$tmp/img" nbdkit -f -r -U "$tmp/s" "$UMIG_PLUGIN_DIR/nbdkit-umig-plugin.so" "$tmp/img"
check_source source.qemu_nbd fake_region 32 "$tmp/img" qemu-nbd -r -f raw -e 8 -t -k "$tmp/s" "$tmp/img"
check_source source.without_extents fake_region 32 "$tmp/img" nbdkit -f -r -U "$tmp/s" --filter=noextents file "$tmp/img"
check_source source.without_structured_replies fake_region 32 "$tmp/img" nbdkit -f -r --no-sr -U "$tmp/s" file "$tmp/img"
check_source source.with_one_request_at_a_time fake_region 32 "$tmp/img" nbdkit -f -r -t 1 -U "$tmp/s" --filter=noparallel file "$tmp/img"
check_source source.slow fake_region 32 "$tmp/img" nbdkit -f -r -U "$tmp/s" --filter=delay file "$tmp/img" rdelay=5ms
check_source source.that_fails_now_and_then fake_region 32 "$tmp/img" nbdkit -f -r -U "$tmp/s" --filter=error file "$tmp/img" \
	error=EIO error-pread-rate=2%
grep -q "nothing was filled, asking again" "$tmp/err"
ok $? "source.error_is_said"

cp "$tmp/img" "$tmp/keep"
truncate -s 0 "$tmp/img"
truncate -s 32M "$tmp/img"
check_source source.memory_all_zero fake_region 32 "$tmp/img" nbdkit -f -U "$tmp/s" memory 32M
cp "$tmp/keep" "$tmp/img"

# --- too small
server_start nbdkit -f -r -U "$tmp/s" file "$tmp/img"
fake_region 64 2
pull --from "$uri"
[ $? = 3 ] && grep -q "the export has 33554432 bytes" "$tmp/err" &&
	fake_is_empty
ok $? "export.too_small_is_refused_and_fills_nothing" "$tmp/err"

# --- image offsets
fake_region 16 4
export UMIG_FAKE_OFFSET=$((16 << 20))
pull --from "$uri"
code=$?
tail -c 16M "$tmp/img" >"$tmp/half"
[ $code = 0 ] && fake_is_whole "$tmp/half"
ok $? "region.with_an_offset_gets_that_part" "$tmp/err"

# --- killed and started again, twice, long before it would be done
fake_region 32 4
export UMIG_FAKE_WORK_US=20000
for want in 4200 4500; do
	pull_start --from "$uri" --rate 1M
	within 20 fake_has_pages $want
	end KILL "$pid"
	fake_is_sound "$tmp/img"
	ok $? "kill.after_${want}_pages_leaves_no_wrong_page" "$tmp/err"
done
unset UMIG_FAKE_WORK_US
pull --from "$uri" --json &&
	fake_is_whole "$tmp/img"
ok $? "kill.third_one_finishes" "$tmp/err"
tail -1 "$tmp/out" | python3 -c "
import json, sys
s = json.load(sys.stdin)
n = s['demand_pages'] + s['background_pages'] + s['zero_pages']
sys.exit(0 if s['event'] == 'summary' and n <= 8192 - 4500 and s['present_pages'] == 8192 else 1)"
ok $? "resume.asks_only_for_what_is_missing" "$tmp/out"

# --- SIGTERM
fake_region 32 4
UMIG_FAKE_WORK_US=20000 pull_start --from "$uri" --rate 1M
within 20 fake_has_pages 100
end TERM "$pid"
[ $? = 4 ] && grep -q "picks up here" "$tmp/err"
ok $? "sigterm.exits_4_and_says_how_to_go_on" "$tmp/err"

# --- the VMM goes away: byte [pages] of the map says dead
fake_region 32 0
pull_start --from "$uri" --rate 1M
within 20 fake_has_pages 100
printf '\002' | dd of="$tmp/map" bs=1 seek=8192 conv=notrunc status=none
wait "$pid"
[ $? = 5 ] && grep -q "its VMM has ended" "$tmp/err"
ok $? "region.gone_exits_5" "$tmp/err"
server_stop

# --- the source is killed and comes back
server_start nbdkit -f -r -U "$tmp/s" file "$tmp/img"
fake_region 32 8
UMIG_FAKE_WORK_US=20000 pull_start --from "$uri" --rate 2M
within 20 fake_has_pages 4500
server_stop
within 10 has_line "$tmp/err" "no connection to the source"
ok $? "source.lost_is_said" "$tmp/err"
fake_is_sound "$tmp/img"
ok $? "source.lost_leaves_no_wrong_page"
server_start nbdkit -f -r -U "$tmp/s" file "$tmp/img"
wait "$pid" &&
	fake_is_whole "$tmp/img" && grep -q "is back" "$tmp/err" &&
	[ "$(grep -c "no connection" "$tmp/err")" = 1 ]
ok $? "source.back_goes_on_and_each_is_said_once" "$tmp/err"

# --- nobody reads umig's messages, and it has one to write: it fills all the same
mkfifo "$tmp/unread"
exec 9<>"$tmp/unread"
python3 - <<'PY'
import os
os.set_blocking(9, False)
try:
    while True:
        os.write(9, bytes(4096))
except BlockingIOError:
    os.set_blocking(9, True)
PY
fake_region 32 8
UMIG_FAKE_WORK_US=20000 "$fake" pull --pid 1234 --from "$uri" --rate 8M 2>&9 &
pid=$!
within 20 fake_has_pages 1000
server_stop
server_start nbdkit -f -r -U "$tmp/s" file "$tmp/img"
within 60 fake_is_whole "$tmp/img"
ok $? "messages.that_nobody_reads_stop_nothing"
wait "$pid"
exec 9>&-

# --- replies cut after every byte count
rm -f "$tmp/c"
"$here/cutter" "$tmp/c" "$tmp/s" 300 &
within 60 test -S "$tmp/c"
sound=$?
fake_region 1 2
pull_start --from "nbd+unix:///?socket=$tmp/c" --connections 1
end=$((SECONDS + 12))
while [ $SECONDS -lt $end ] && kill -0 "$pid" 2>/dev/null; do
	[ -s "$tmp/map" ] && { fake_is_sound <(head -c 1M "$tmp/img") || sound=1; }
	sleep 0.3
done
ok $sound "cut.no_page_is_ever_wrong" "$tmp/err"
end TERM "$pid"
# nbdkit 1.32 may have aborted over a connection cut in its handshake.
server_stop
server_start nbdkit -f -r -U "$tmp/s" file "$tmp/img"
fake_region 1 2
pull --from "$uri" && fake_is_whole <(head -c 1M "$tmp/img")
ok $? "cut.afterwards_a_good_source_finishes" "$tmp/err"
server_stop

# --- a structured reply that leaves a gap, which libnbd fills with zeros
cat >"$tmp/gap.py" <<'PY'
import socket, struct, sys, threading
l = socket.socket(socket.AF_UNIX); l.bind(sys.argv[1]); l.listen(8)
size = 1 << 20
def serve(c):
    def read(n):
        b = b""
        while len(b) < n:
            x = c.recv(n - len(b))
            if not x: raise EOFError
            b += x
        return b
    try:
        c.send(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)); read(4)
        while True:
            _, opt, n = struct.unpack(">QII", read(16)); read(n)
            rep = lambda t, d=b"": c.send(struct.pack(">QIII", 0x3e889045565a9, opt, t, len(d)) + d)
            if opt == 8: rep(1)
            elif opt in (6, 7):
                rep(3, struct.pack(">HQH", 0, size, 3)); rep(1)
                if opt == 7: break
            else: rep(0x80000001)
        while True:
            _, _, cmd, cookie, off, n = struct.unpack(">IHHQQI", read(28))
            if cmd != 0: return
            half = n // 2
            c.send(struct.pack(">IHHQI", 0x668e33ef, 1, 1, cookie, 8 + half) +
                   struct.pack(">Q", off) + b"\xaa" * half)
    except (EOFError, OSError):
        pass
while True:
    c, _ = l.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
PY
server_start python3 "$tmp/gap.py" "$tmp/s"
fake_region 1 2
pulls_in_vain "nothing was filled" --from "$uri"
ok $? "gap.in_a_reply_fills_nothing" "$tmp/err"
server_stop

# --- a page that cannot be read, until it can
server_start nbdkit -f -r -U "$tmp/s" eval get_size='echo 2097152' \
	pread="if [ -e '$tmp/bad' ] && [ \$4 -le 1228800 ] && [ \$((\$3 + \$4)) -gt 1228800 ]; then
		echo >>'$tmp/asked'; echo EIO bad sector >&2; exit 1; fi
	dd if='$tmp/img' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 status=none"
touch "$tmp/bad" "$tmp/asked"
fake_region 2 0
pull_start --from "$uri" --json
within 20 fake_has_pages 511
ok $? "unreadable.page_keeps_no_other_away" "$tmp/err"
asked_again() { [ "$(wc -l <"$tmp/asked")" -ge 10 ]; }
within 20 asked_again
[ "$(grep -c "cannot read" "$tmp/err")" = 1 ] &&
	sed -n 's/.*cannot read \([0-9]*\) bytes at offset \([0-9]*\): Input\/output error.*/\1 \2/p' \
		"$tmp/err" | awk '{ said = $2 <= 1228800 && $1 + $2 > 1228800 } END { exit !said }' &&
	[ "$(grep -c '"event":"unreadable"' "$tmp/out")" = 1 ]
ok $? "unreadable.range_is_said_once" "$tmp/err"
end TERM "$pid"
[ $? = 4 ] && tail -1 "$tmp/out" | grep -q '"unreadable_pages":1'
ok $? "unreadable.is_told_at_the_end" "$tmp/err"
fake_is_sound <(head -c 2M "$tmp/img")
ok $? "unreadable.leaves_no_wrong_page"
pull_start --from "$uri" --json
within 20 has_line "$tmp/err" "cannot read 4096 bytes"
rm "$tmp/bad"
wait "$pid" && fake_is_whole <(head -c 2M "$tmp/img")
ok $? "unreadable.page_comes_once_it_can_be_read" "$tmp/err"
server_stop

# --- garbage instead of NBD
server_start python3 -c "
import socket
l = socket.socket(socket.AF_UNIX); l.bind('$tmp/s'); l.listen(8)
while True:
    c, _ = l.accept(); c.send(b'220 smtp.example.org ESMTP ready\r\n' * 10); c.close()"
fake_region 1 2
timeout -s TERM 2 "$fake" pull --pid 1234 --from "$uri" 2>"$tmp/err"
[ $? = 124 ] && fake_is_empty
ok $? "garbage.fills_nothing" "$tmp/err"
server_stop

# --- the table fits a terminal, also with the widest entries
fake_region 512 0
export UMIG_FAKE_OFFSET=$((3 << 30)) UMIG_FAKE_PID=4194304
"$fake" list >"$tmp/out" 2>"$tmp/err"
awk 'length($0) > 80 { exit 1 } END { exit NR == 2 ? 0 : 1 }' "$tmp/out" &&
	has_line "$tmp/out" " 3G+512M "
ok $? "list.fits_80_columns" "$tmp/out"
unset UMIG_FAKE_OFFSET
export UMIG_FAKE_PID=1234

# --- command lines
pull --from "nonsense:abc"
[ $? = 3 ]
ok $? "uri.that_is_none_exits_3" "$tmp/err"
"$fake" pull --pid 1234 2>"$tmp/err"
[ $? = 2 ]
ok $? "usage.exits_2" "$tmp/err"
"$fake" pull --pid 1 --from "$uri" 2>"$tmp/err"
[ $? = 5 ]
ok $? "pid.without_a_region_exits_5" "$tmp/err"
"$umig" list 2>"$tmp/err"
[ $? = 1 ] && grep -q modprobe "$tmp/err"
ok $? "list.without_the_module_says_what_to_do" "$tmp/err"
finish
