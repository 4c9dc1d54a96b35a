#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# send and recv encrypted, pages and control connection: strangers move no guest.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_qemu.sh"

psktool -u alice -p "$tmp/psk" >/dev/null 2>&1
psktool -u alice -p "$tmp/other" >/dev/null 2>&1
certificates "$tmp/certs"
certificates "$tmp/forged"
key=(--tls-psk "$tmp/psk" --tls-user alice)

# moves_with RECV-ADDRESS SEND-ADDRESS OPTION... - every page arrives encrypted.
moves_with() {
	local listen=$1 to=$2
	shift 2
	recv_start dst "$listen" "$@"
	send_run --to "$to" "$@" && wait "$recv_pid" && fake_is_whole "$tmp/src.ram"
}

# stays_here ADDRESS SEND-OPTION... - send fails, the source runs on and nothing is installed.
stays_here() {
	local address=$1
	shift
	send_run --to "$address" --timeout 3 "$@"
	[ $? = 6 ] && vmm_is src running && ! fake_has_pages 1
}

pair -S
moves_with "unix:$tmp/ctl" "unix:$tmp/ctl" "${key[@]}"
ok $? "migrate_tls.with_a_key_over_unix_sockets" "$tmp/send.err"
end_pair

pair -S
moves_with tcp:127.0.0.1:27911 tcp:127.0.0.1:27911 "${key[@]}"
ok $? "migrate_tls.with_a_key_over_tcp" "$tmp/send.err"
end_pair

pair -S
moves_with tcp:localhost:27912 tcp:localhost:27912 --tls-certificates "$tmp/certs"
ok $? "migrate_tls.with_certificates" "$tmp/send.err"
end_pair

# --- a wire between the two sides sees plain text or nothing
cat >"$tmp/wire.py" <<'PY'
import selectors, socket, sys
listen, to, log = sys.argv[1:]
l = socket.socket(socket.AF_UNIX); l.bind(listen); l.listen(1)
a, _ = l.accept()
b = socket.socket(socket.AF_UNIX); b.connect(to)
seen, sel = open(log, "wb"), selectors.DefaultSelector()
sel.register(a, selectors.EVENT_READ, b); sel.register(b, selectors.EVENT_READ, a)
while True:
    for key, _ in sel.select():
        data = key.fileobj.recv(65536)
        if not data:
            sys.exit(0)
        seen.write(data); seen.flush()
        key.data.sendall(data)
PY
# crosses_wire OPTION... - the migration works; the data that crossed the wire is in $tmp/seen
crosses_wire() {
	rm -f "$tmp/wire"
	python3 "$tmp/wire.py" "$tmp/wire" "$tmp/ctl" "$tmp/seen" &
	within 5 test -S "$tmp/wire"
	recv_start dst "unix:$tmp/ctl" "$@"
	send_run --to "unix:$tmp/wire" "$@" && wait "$recv_pid" && [ -s "$tmp/seen" ]
}
pair -S
crosses_wire && grep -qa 'ram_id' "$tmp/seen"
ok $? "migrate_tls.without_it_the_wire_sees_what_is_said" "$tmp/send.err"
end_pair
pair -S
crosses_wire "${key[@]}" && ! grep -qa 'ram_id\|"type"' "$tmp/seen"
ok $? "migrate_tls.with_it_the_wire_sees_nothing" "$tmp/send.err"
end_pair

pair
recv_start dst "unix:$tmp/ctl" "${key[@]}"
"$umig" send --qmp "$tmp/src.qmp" --to "unix:$tmp/ctl" "${key[@]}" >"$tmp/send.out" 2>"$tmp/send.err"
code=$?
wait "$recv_pid" && [ $code = 0 ] && vmm_is dst running
ok $? "migrate_tls.a_running_guest" "$tmp/send.err"
end_pair

# --- strangers
pair
recv_start dst tcp:localhost:27913 --tls-certificates "$tmp/certs"
stays_here tcp:localhost:27913 --tls-certificates "$tmp/forged"
ok $? "migrate_tls.a_sender_of_another_authority_moves_nothing" "$tmp/send.err"
end_pair
pair
recv_start dst tcp:localhost:27914 --tls-certificates "$tmp/forged"
stays_here tcp:localhost:27914 --tls-certificates "$tmp/certs" && has_line "$tmp/send.err" "no TLS"
ok $? "migrate_tls.a_receiver_of_another_authority_gets_nothing" "$tmp/send.err"
end_pair
pair
recv_start dst tcp::27915 --tls-certificates "$tmp/certs"
stays_here tcp:127.0.0.2:27915 --tls-certificates "$tmp/certs" && has_line "$tmp/send.err" "no TLS"
ok $? "migrate_tls.a_receiver_whose_certificate_is_for_another_host_gets_nothing" "$tmp/send.err"
end_pair
pair
recv_start dst "unix:$tmp/ctl" "${key[@]}"
stays_here "unix:$tmp/ctl" --tls-psk "$tmp/other" --tls-user alice
ok $? "migrate_tls.a_sender_with_another_key_moves_nothing" "$tmp/send.err"
end_pair
pair
recv_start dst "unix:$tmp/ctl" "${key[@]}"
stays_here "unix:$tmp/ctl" && has_line "$tmp/send.err" "only with TLS"
ok $? "migrate_tls.a_sender_in_the_clear_moves_nothing_and_is_told" "$tmp/send.err"
end_pair
pair
recv_start dst "unix:$tmp/ctl"
stays_here "unix:$tmp/ctl" "${key[@]}" && has_line "$tmp/send.err" "no TLS"
ok $? "migrate_tls.a_receiver_in_the_clear_gets_nothing" "$tmp/send.err"
end_pair

# --- a stranger takes nothing from a receiver that waits: the right one still comes through
pair -S
recv_start dst "unix:$tmp/ctl" "${key[@]}"
python3 - "$tmp/ctl" <<'PY'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"GET / HTTP/1.0\r\n\r\n")
s.settimeout(15)
s.recv(1)
PY
send_run --to "unix:$tmp/ctl" "${key[@]}" && wait "$recv_pid" && fake_is_whole "$tmp/src.ram"
ok $? "migrate_tls.after_a_stranger_the_right_sender_comes_through" "$tmp/recv.err"
end_pair

# --- killed and resumed, still encrypted
half_way "${key[@]}"
recv_kill
recv_start dst "unix:$tmp/ctl" "${key[@]}" --resume
both_finish
ok $? "migrate_tls.a_second_receiver_finishes" "$tmp/recv.err"
end_pair

# --- command lines
"$umig" send --qmp "$tmp/src.qmp" --to "unix:$tmp/ctl" --tls-psk "$tmp/psk" --tls-user bob 2>"$tmp/err"
[ $? = 3 ] && has_line "$tmp/err" "there is no key of user 'bob'"
ok $? "migrate_tls.a_user_without_a_key_is_refused" "$tmp/err"
"$umig" send --qmp "$tmp/src.qmp" --to "unix:$tmp/ctl" --tls-certificates "$tmp" 2>"$tmp/err"
[ $? = 3 ] && has_line "$tmp/err" "ca-cert.pem"
ok $? "migrate_tls.a_directory_without_certificates_is_refused" "$tmp/err"
finish
