#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Peers that belong to no migration, or to another one, come to a sender or receiver.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_qemu.sh"

# --- a peer takes every connection and hangs up: the sender makes only a few
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
ok $? "resume.sender_is_patient_with_a_peer_that_hangs_up" "$tmp/recv.err"
rm -f "$tmp/ctl"
recv_start dst "unix:$tmp/ctl" --resume
both_finish
ok $? "resume.sender_finds_the_receiver_afterwards" "$tmp/recv.err"
end_pair

# --- senders of other migrations, which still try this address, come first
cat >"$tmp/stranger.py" <<'PY'
import json, socket, struct, sys
path, go, expected = sys.argv[1:]
hello = json.dumps({"type": "hello", "version": 1, "id": "5" * 32, "go": go == "go", "running": True,
                    "precopy": False, "ram_id": "ram", "ram_size": 64 << 20, "page_size": 4096,
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
recv_start dst "unix:$tmp/ctl" --rate 1M
stranger go "waits for a new migration" && kill -0 "$recv_pid"
ok $? "recv.turns_away_a_sender_of_an_earlier_migration" "$tmp/stranger.err"
send_start src "unix:$tmp/ctl"
within 20 fake_has_pages 9000
recv_kill
rm -f "$tmp/ctl"
kill -STOP "$send_pid"
recv_start dst "unix:$tmp/ctl" --resume
stranger new "takes no new migration" && stranger go "another migration" && kill -0 "$recv_pid"
ok $? "resume.turns_away_senders_of_other_migrations" "$tmp/stranger.err"
kill -CONT "$send_pid"
both_finish
ok $? "resume.takes_its_own_after_them" "$tmp/recv.err"
end_pair
finish
