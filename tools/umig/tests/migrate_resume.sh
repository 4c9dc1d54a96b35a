#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# recv --resume: a receiver was killed, and another one goes on.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_qemu.sh"

# --- the receiver is killed while pages come; another goes on
half_way
ok $? "resume.setup" "$tmp/send.err"
recv_kill
fake_is_sound "$tmp/src.ram"
ok $? "resume.killed_receiver_leaves_no_wrong_page"
within 20 has_line "$tmp/send.err" "pages stay available"
ok $? "resume.sender_keeps_the_pages" "$tmp/send.err"
recv_start dst "unix:$tmp/ctl" --resume
both_finish
ok $? "resume.second_receiver_finishes" "$tmp/recv.err"
end_pair

# --- the page server dies before the second receiver has heard from it
half_way
servers=$(pgrep -f "nbdkit.*$tmp/src.ram")
kill -STOP "$servers"
recv_kill
recv_start dst "unix:$tmp/ctl" --resume
within 20 has_line "$tmp/send.err" "a receiver goes on"
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
recv_start dst "unix:$tmp/ctl" --resume --rate 1M
recv_kill
rm -f "$tmp/ctl"
recv_start dst "unix:$tmp/ctl" --resume --rate 4M
timeout 30 python3 "$tmp/hangup.py" sender "$tmp/ctl" 2 && kill -0 "$recv_pid"
ok $? "resume.receiver_listens_on_after_senders_that_died_in_the_handshake" "$tmp/recv.err"
both_finish
ok $? "resume.after_all_that_every_page_is_there_once" "$tmp/recv.err"
end_pair

# --- QEMU waits for a page itself, so its QMP does not answer: pull needs no QMP
half_way
recv_kill
kill -STOP "$dst_pid"
within 20 has_line "$tmp/send.err" "pages stay available"
timeout 30 "$fake" recv --qmp "$tmp/dst.qmp" --listen "unix:$tmp/ctl" --resume 2>"$tmp/recv.err"
[ $? = 1 ] && grep -q "umig pull --pid $dst_pid --from URI" "$tmp/recv.err"
ok $? "resume.a_qemu_that_does_not_answer_is_refused_and_pull_named" "$tmp/recv.err"
uri=$(sed -n 's/.*umig pull --pid PID --from "\(.*\)".*/\1/p' "$tmp/send.err" | tail -n 1)
timeout 60 "$fake" pull --pid "$dst_pid" --from "$uri" 2>"$tmp/pull.err" &&
	fake_is_whole "$tmp/src.ram"
ok $? "resume.pull_delivers_everything_to_it" "$tmp/pull.err"
kill -CONT "$dst_pid"
end TERM "$send_pid"
end_pair
finish
