#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The receiver vanishes at each step: until GO the source runs on, after it nobody resumes it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_qemu.sh"

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
	within 60 test -S "$tmp/ctl"
	send_run --to "unix:$tmp/ctl" --timeout 3
	code=$?
	end TERM "$standin"
	[ $code = 6 ] && vmm_is src running
	ok $? "send.source_runs_again_after_the_receiver_vanished_at_$step" "$tmp/send.err"
done
"$umig" send --qmp "$tmp/src.qmp" --to "unix:$tmp/nobody" 2>"$tmp/send.err"
[ $? = 6 ] && vmm_is src running
ok $? "send.source_runs_on_if_nobody_listens" "$tmp/send.err"
begin=$SECONDS
"$umig" send --qmp "$tmp/src.qmp" --to "unix:$tmp/nobody" --wait 1 2>"$tmp/send.err"
[ $? = 6 ] && [ $((SECONDS - begin)) -ge 1 ] && vmm_is src running
ok $? "send.wait_ends_at_its_limit" "$tmp/send.err"
qmp src query-migrate-capabilities | grep -q '"state": false, "capability": "x-ignore-shared"'
ok $? "send.restores_the_capability"

# --- the destination QEMU is killed while it waits: the source runs on
recv_start dst "unix:$tmp/ctl"
kill -9 "$dst_pid"
wait "$recv_pid"
[ $? = 1 ]
ok $? "recv.says_that_qemu_has_ended" "$tmp/recv.err"

# --- GO sent, receiver gone: nobody resumes the source
rm -f "$tmp/ctl"
python3 "$tmp/standin.py" "$tmp/ctl" go &
standin=$!
within 60 test -S "$tmp/ctl"
send_run --to "unix:$tmp/ctl" --timeout 10
[ $? = 7 ] && vmm_is src postmigrate
ok $? "send.after_go_the_source_is_never_resumed" "$tmp/send.err"
end_pair

# --- the receiver reports that the contents differ
pair -S
rm -f "$tmp/ctl"
python3 "$tmp/standin.py" "$tmp/ctl" mismatch &
standin=$!
within 60 test -S "$tmp/ctl"
send_run --to "unix:$tmp/ctl"
[ $? = 8 ] && has_line "$tmp/send.err" "they differ; the source keeps its pages"
ok $? "send.mismatch_exits_8" "$tmp/send.err"
end_pair
finish
