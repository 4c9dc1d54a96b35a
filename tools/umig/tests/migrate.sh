#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# send and recv with two stock QEMUs: the whole way, refusals, and who vanishes when.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_qemu.sh"

# --- the whole way, paused guest, Unix sockets
pair -S
recv_start "unix:$tmp/ctl" --json
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
run_state "$tmp/dst.test" prelaunch
ok $? "migrate.a_guest_that_never_ran_stays_so"
end_pair

# --- precopy: pages come first, then the source stops; a paused guest writes nothing
if [ "$(python3 - <<'PY'
import mmap, struct
m = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); m[0] = 1
import ctypes
a = ctypes.addressof(ctypes.c_char.from_buffer(m))
f = open("/proc/self/pagemap", "rb"); f.seek(a // 4096 * 8)
print(struct.unpack("Q", f.read(8))[0] >> 55 & 1)
PY
)" = 1 ]; then
	pair -S
	recv_start "unix:$tmp/ctl" --json
	send_run --to "unix:$tmp/ctl" --precopy --rounds 3 --json
	code=$?
	wait "$recv_pid"
	rcode=$?
	[ $code = 0 ] && [ $rcode = 0 ] && fake_is_whole "$tmp/src.ram"
	ok $? "precopy.every_page_equal_and_converted" "$tmp/send.err"
	tail -1 "$tmp/recv.out" | grep -q '"digest_checked":true'
	ok $? "precopy.digest_is_compared" "$tmp/recv.out"
	end_pair
	# While it waits somebody comes whose writes leave no mark.
	pair -S
	send_start --precopy --wait 60
	wait_until 20 has_line "$tmp/send.err" "nobody listens"
	python3 - "$tmp/src.ram" "$tmp/mapped" <<-'PY' &
	import mmap, signal, sys
	f = open(sys.argv[1], "r+b")
	m = mmap.mmap(f.fileno(), 4096)
	open(sys.argv[2], "w")
	signal.pause()
	PY
	started+=("$!")
	wait_until 20 test -e "$tmp/mapped"
	recv_start "unix:$tmp/ctl"
	wait "$send_pid"
	[ $? = 3 ] && has_line "$tmp/send.err" "can write to" && run_state "$tmp/src.test" prelaunch
	ok $? "precopy.a_writer_that_comes_during_the_wait_is_seen" "$tmp/send.err"
	kill "$recv_pid"
	end_pair
else
	pair -S
	recv_start "unix:$tmp/ctl"
	send_run --to "unix:$tmp/ctl" --precopy
	[ $? = 3 ] && has_line "$tmp/send.err" "no soft-dirty bits" && run_state "$tmp/src.test" prelaunch
	ok $? "precopy.is_refused_without_soft_dirty_bits" "$tmp/send.err"
	end_pair
fi

# --- the sender comes first and waits; the guest is continued meanwhile, and that counts
pair -S
rm -f "$tmp/send.out" "$tmp/send.err"
"$umig" send --qmp "$tmp/src.qmp" --to "unix:$tmp/ctl" --wait 30 >"$tmp/send.out" 2>"$tmp/send.err" &
send_pid=$!
started+=("$send_pid")
wait_until 10 has_line "$tmp/send.err" "nobody listens on .* yet"
ok $? "send.says_that_it_waits" "$tmp/send.err"
qmp "$tmp/src.test" cont >/dev/null
recv_start "unix:$tmp/ctl"
wait "$recv_pid"
rcode=$?
wait "$send_pid"
code=$?
[ $code = 0 ] && [ $rcode = 0 ] && run_state "$tmp/dst.test" running
ok $? "send.waits_until_recv_listens" "$tmp/send.err"
end_pair

# --- a signal ends the wait and the source is as it was
pair
rm -f "$tmp/send.out" "$tmp/send.err"
"$umig" send --qmp "$tmp/src.qmp" --to "unix:$tmp/ctl" --wait 30 >"$tmp/send.out" 2>"$tmp/send.err" &
send_pid=$!
started+=("$send_pid")
wait_until 10 has_line "$tmp/send.err" "nobody listens on .* yet"
kill -TERM "$send_pid"
wait "$send_pid"
[ $? = 6 ] && run_state "$tmp/src.test" running
ok $? "send.wait_is_ended_by_a_signal" "$tmp/send.err"
# Somebody else has stopped the guest meanwhile: it stays so.
rm -f "$tmp/send.err"
"$umig" send --qmp "$tmp/src.qmp" --to "unix:$tmp/ctl" --wait 30 >"$tmp/send.out" 2>"$tmp/send.err" &
send_pid=$!
started+=("$send_pid")
wait_until 60 has_line "$tmp/send.err" "nobody listens on .* yet"
qmp "$tmp/src.test" stop >/dev/null
kill -TERM "$send_pid"
wait "$send_pid"
[ $? = 6 ] && run_state "$tmp/src.test" paused && has_line "$tmp/send.err" "the source guest is paused;"
ok $? "send.leaves_a_guest_alone_that_somebody_else_has_stopped" "$tmp/send.err"
qmp "$tmp/src.test" cont >/dev/null
end_pair

# --- TCP, running guest (its RAM moves on, so only the states are compared)
pair
recv_start tcp:127.0.0.1:27901
send_run --to tcp:127.0.0.1:27901
code=$?
wait "$recv_pid"
rcode=$?
[ $code = 0 ] && [ $rcode = 0 ]
ok $? "migrate.over_tcp" "$tmp/recv.err"
run_state "$tmp/dst.test" running
ok $? "migrate.running_guest_runs_at_the_destination" "$tmp/send.err"
run_state "$tmp/src.test" postmigrate
ok $? "migrate.source_stays_stopped"
end_pair

# --- refusals
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
qmp "$tmp/src.test" query-status >/dev/null
end_pair

# --- the receiver vanishes at each step before GO: the source runs on
# A stand-in receiver speaks the protocol up to a step and hangs up.
cat >"$tmp/standin.py" <<'PY'
import json, socket, struct, sys
path, step = sys.argv[1:]
def frame(o):
    b = json.dumps(o).encode()
    return struct.pack(">IB", len(b), 1) + b
l = socket.socket(socket.AF_UNIX); l.bind(path); l.listen(1)
c, _ = l.accept()
def read(n):
    b = b""
    while len(b) < n:
        x = c.recv(n - len(b))
        if not x:
            sys.exit(0)
        b += x
    return b
def message():
    n, kind = struct.unpack(">IB", read(5))
    return kind, read(n)
if step == "accept": sys.exit(0)
if step == "garbage":
    message(); c.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"); c.recv(1); sys.exit(0)
message()
if step == "hello": sys.exit(0)
if step == "error": c.send(frame({"type": "error", "text": "no room"})); c.recv(1); sys.exit(0)
c.send(frame({"type": "ready"}))
if step == "ready": sys.exit(0)
while True:
    kind, body = message()
    if step == "state": sys.exit(0)
    if kind == 1: break
if step == "state_end": sys.exit(0)
if step == "silent":
    c.settimeout(30); c.recv(1); sys.exit(0)
if step == "load_error":
    c.send(frame({"type": "error", "text": "cannot load"})); c.recv(1); sys.exit(0)
c.send(frame({"type": "loaded"}))
kind, body = message()
if step == "mismatch":
    c.send(frame({"type": "resumed", "resume_ms": 1.0}))
    c.send(frame({"type": "done", "present": 16384, "total": 16384}))
    kind, body = message()
    assert json.loads(body)["type"] == "end"
    c.send(frame({"type": "error", "code": "mismatch", "text": "they differ"}))
    c.recv(1)
    sys.exit(0)
l.close()
sys.exit(0)
PY
pair
for step in accept hello garbage error ready state state_end silent load_error; do
	rm -f "$tmp/ctl"
	python3 "$tmp/standin.py" "$tmp/ctl" $step &
	standin=$!
	started+=("$standin")
	wait_until 60 test -S "$tmp/ctl"
	send_run --to "unix:$tmp/ctl" --timeout 3
	code=$?
	kill $standin 2>/dev/null
	wait $standin 2>/dev/null
	[ $code = 6 ] && run_state "$tmp/src.test" running
	ok $? "send.source_runs_again_after_the_receiver_vanished_at_$step" "$tmp/send.err"
done
"$umig" send --qmp "$tmp/src.qmp" --to "unix:$tmp/nobody" 2>"$tmp/send.err"
[ $? = 6 ] && run_state "$tmp/src.test" running
ok $? "send.source_runs_on_if_nobody_listens" "$tmp/send.err"
begin=$SECONDS
"$umig" send --qmp "$tmp/src.qmp" --to "unix:$tmp/nobody" --wait 1 2>"$tmp/send.err"
[ $? = 6 ] && [ $((SECONDS - begin)) -ge 1 ] && run_state "$tmp/src.test" running
ok $? "send.wait_ends_at_its_limit" "$tmp/send.err"
qmp "$tmp/src.test" query-migrate-capabilities | grep -q '"state": false, "capability": "x-ignore-shared"'
ok $? "send.restores_the_capability"

# --- the destination QEMU is killed while it waits: the source runs on
recv_start "unix:$tmp/ctl"
kill -9 "$dst_pid"
wait "$recv_pid"
[ $? = 1 ]
ok $? "recv.says_that_qemu_has_ended" "$tmp/recv.err"

# --- GO sent, receiver gone: nobody resumes the source
rm -f "$tmp/ctl"
python3 "$tmp/standin.py" "$tmp/ctl" go &
standin=$!
started+=("$standin")
wait_until 60 test -S "$tmp/ctl"
send_run --to "unix:$tmp/ctl" --timeout 10
[ $? = 7 ] && run_state "$tmp/src.test" postmigrate
ok $? "send.after_go_the_source_is_never_resumed" "$tmp/send.err"
end_pair

# --- the receiver says by its code that the contents differ
pair -S
rm -f "$tmp/ctl"
python3 "$tmp/standin.py" "$tmp/ctl" mismatch &
standin=$!
started+=("$standin")
wait_until 60 test -S "$tmp/ctl"
send_run --to "unix:$tmp/ctl"
[ $? = 8 ] && has_line "$tmp/send.err" "they differ; the source keeps its pages"
ok $? "send.mismatch_exits_8" "$tmp/send.err"
end_pair

# --- the receiver is killed while pages come; another goes on
half_way
ok $? "resume.setup" "$tmp/send.err"
recv_kill
fake_is_sound "$tmp/src.ram"
ok $? "resume.killed_receiver_leaves_no_wrong_page"
wait_until 20 has_line "$tmp/send.err" "pages stay available"
ok $? "resume.sender_keeps_the_pages" "$tmp/send.err"
recv_start "unix:$tmp/ctl" --resume
both_finish
ok $? "resume.second_receiver_finishes" "$tmp/recv.err"
end_pair

# --- the page server dies when the receiver that goes on has not had a word from it
half_way
servers=$(pgrep -f "nbdkit.*$tmp/src.ram")
kill -STOP "$servers"
recv_kill
recv_start "unix:$tmp/ctl" --resume
wait_until 20 has_line "$tmp/send.err" "a receiver goes on"
start=$SECONDS
kill -9 "$servers"
both_finish && [ $((SECONDS - start)) -lt 25 ]
ok $? "resume.page_server_that_died_is_started_again_at_once" "$tmp/recv.err"
end_pair

# --- recovery fails in the handshake, on the one side and on the other, twice; then it succeeds
cat >"$tmp/hangup.py" <<'PY'
import socket, sys
role, path, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
if role == "receiver":
    l = socket.socket(socket.AF_UNIX); l.bind(path); l.listen(1)
for _ in range(times):
    if role == "receiver":
        c, _ = l.accept()
        assert c.recv(5)
    else:
        c = socket.socket(socket.AF_UNIX); c.connect(path)
        c.sendall(b"\0\0\1\0\1{\"type\": \"hel")
    c.close()
PY
half_way
recv_kill
rm -f "$tmp/ctl"
timeout 30 python3 "$tmp/hangup.py" receiver "$tmp/ctl" 2
ok $? "resume.sender_comes_again_after_a_receiver_that_died_in_the_handshake" "$tmp/send.err"
recv_start "unix:$tmp/ctl" --resume --rate 1M
recv_kill
rm -f "$tmp/ctl"
recv_start "unix:$tmp/ctl" --resume --rate 4M
timeout 30 python3 "$tmp/hangup.py" sender "$tmp/ctl" 2 && kill -0 "$recv_pid"
ok $? "resume.receiver_listens_on_after_senders_that_died_in_the_handshake" "$tmp/recv.err"
both_finish
ok $? "resume.after_all_that_every_page_is_there_once" "$tmp/recv.err"
end_pair

# --- somebody takes every connection and hangs up: no more than a few are made
cat >"$tmp/flap.py" <<'PY'
import socket, sys, time
l = socket.socket(socket.AF_UNIX); l.bind(sys.argv[1]); l.listen(8)
end, nr = time.monotonic() + 3, 0
while (left := end - time.monotonic()) > 0:
    l.settimeout(left)
    try:
        c, _ = l.accept()
        c.recv(5)
        c.close()
        nr += 1
    except TimeoutError:
        pass
sys.exit(0 if 1 <= nr <= 8 else "%d connections in 3 s" % nr)
PY
half_way
recv_kill
rm -f "$tmp/ctl"
python3 "$tmp/flap.py" "$tmp/ctl" 2>"$tmp/recv.err" && has_line "$tmp/send.err" "pages stay available"
ok $? "resume.sender_is_patient_with_one_who_hangs_up" "$tmp/recv.err"
rm -f "$tmp/ctl"
recv_start "unix:$tmp/ctl" --resume
both_finish
ok $? "resume.sender_finds_the_receiver_after_him" "$tmp/recv.err"
end_pair

# --- senders of other guests, left behind on this address, come first
cat >"$tmp/stranger.py" <<'PY'
import json, socket, struct, sys
path, go, expected = sys.argv[1:]
hello = json.dumps({"type": "hello", "version": 1, "id": "5" * 32, "go": go == "go", "running": True,
                    "precopy": False, "ram_id": "r0", "ram_size": 64 << 20, "page_size": 4096,
                    "uri": "nbd+unix:///?socket=/nowhere"}).encode()
c = socket.socket(socket.AF_UNIX)
c.settimeout(20)
c.connect(path)
c.sendall(struct.pack(">IB", len(hello), 1) + hello)
data = b""
while part := c.recv(4096):
    data += part
text = json.loads(data[5:])["text"]
sys.exit(0 if expected in text else text)
PY
stranger() { timeout 30 python3 "$tmp/stranger.py" "$tmp/ctl" "$@" 2>"$tmp/stranger.err"; }
pair -S
python3 -c "import sys; sys.stdout.buffer.write(bytes(99) + b'\1' + bytes(16285))" >"$tmp/map"
timeout 20 "$fake" recv --qmp "$tmp/dst.qmp" --listen "unix:$tmp/ctl" 2>"$tmp/recv.err"
[ $? = 3 ] && has_line "$tmp/recv.err" "1 pages of region.* are there already"
ok $? "recv.into_memory_that_has_pages_is_refused" "$tmp/recv.err"
rm "$tmp/map"
recv_start "unix:$tmp/ctl" --rate 1M
stranger go "waits for a new migration" && kill -0 "$recv_pid"
ok $? "recv.turns_away_a_sender_of_an_earlier_migration" "$tmp/stranger.err"
send_start
wait_until 20 fake_has_pages 9000
recv_kill
rm -f "$tmp/ctl"
kill -STOP "$send_pid"
recv_start "unix:$tmp/ctl" --resume
stranger new "takes no new migration" && stranger go "another migration" && kill -0 "$recv_pid"
ok $? "resume.turns_away_senders_of_other_migrations" "$tmp/stranger.err"
kill -CONT "$send_pid"
both_finish
ok $? "resume.takes_its_own_after_them" "$tmp/recv.err"
end_pair

# --- both sides are killed at once: each half is still there, and a third umig finishes
half_way
kill -9 "$recv_pid" "$send_pid"
wait "$recv_pid" "$send_pid" 2>/dev/null
fake_is_sound "$tmp/src.ram" && run_state "$tmp/src.test" postmigrate
ok $? "resume.both_killed_at_once_leave_both_halves"
rm -f "$tmp/serve.out" "$tmp/serve.err"
"$umig" serve --file "$tmp/src.ram" --listen "unix:$tmp/pages" >"$tmp/serve.out" 2>"$tmp/serve.err" &
started+=("$!")
wait_until 60 has_line "$tmp/serve.out" nbd
"$fake" pull --pid "$dst_pid" --from "$(cat "$tmp/serve.out")" 2>"$tmp/pull.err" &&
	fake_is_whole "$tmp/src.ram"
ok $? "resume.serve_and_pull_finish_what_both_left" "$tmp/pull.err"
end_pair

# --- the same, finished by pull alone
half_way
recv_kill
wait_until 20 has_line "$tmp/send.err" "umig pull"
uri=$(sed -n "s/.*--from \"\([^\"]*\)\".*/\1/p" "$tmp/send.err" | tail -1)
"$fake" pull --pid "$dst_pid" --from "$uri" 2>"$tmp/pull.err" &&
	fake_is_whole "$tmp/src.ram"
ok $? "resume.pull_alone_finishes" "$tmp/pull.err"
kill -TERM $send_pid
wait $send_pid
[ $? = 4 ]
ok $? "resume.sender_without_acknowledgement_exits_4" "$tmp/send.err"
end_pair
finish
