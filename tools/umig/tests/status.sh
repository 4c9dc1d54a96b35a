#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# status and set: look at a running umig from outside, and change its rate and course.
. "$(dirname "$0")/lib.sh"

# Large enough that the one vCPU that faults does not bring all of it meanwhile.
make_image "$tmp/img" 128
uri="nbd+unix:///?socket=$tmp/s"
server=(nbdkit -f -r -U "$tmp/s" file "$tmp/img")

status() { "$umig" status --pid "$pid" --json >"$tmp/status" 2>"$tmp/err"; }

# status_is EXPRESSION - it holds for the JSON object s
status_is() {
	status && python3 -c "
import json
s = json.load(open('$tmp/status'))[0]
assert ($1), s" 2>"$tmp/err"
}

"$umig" status >"$tmp/out" 2>"$tmp/err" && has_line "$tmp/err" "no umig is running"
ok $? "status.of_nothing_says_so" "$tmp/err"

server_start "${server[@]}"
fake_region 128 1
rm -f "$tmp/pull"
"$fake" pull --pid 1234 --from "$uri" --rate 1M 2>"$tmp/pull" &
pid=$!
within 10 status_is "s['present_pages'] > 0 and s['p50_ns'] > 0"
status_is "s['pid'] == $pid and s['command'] == 'pull' and s['phase'] == 'filling' and
	s['source'] == '$uri' and s['regions'] == [7] and s['total_pages'] == 32768 and
	s['missing_pages'] == 32768 - s['present_pages'] and s['rate'] == 1 << 20 and
	s['source_lost_seconds'] is None and not s['paused'] and
	0 < s['p50_ns'] <= s['p99_ns']"
ok $? "status.tells_what_is_missing_and_how_long_faults_wait" "$tmp/err"

"$umig" status >"$tmp/out" 2>"$tmp/err"
awk 'length($0) > 80 { exit 1 } END { exit NR == 2 ? 0 : 1 }' "$tmp/out" &&
	has_line "$tmp/out" "pull     filling .* 1 MiB/s"
ok $? "status.fits_80_columns" "$tmp/out"

rm -f "$tmp/watch" "$tmp/err"
timeout 120 "$umig" status --watch --pid "$pid" >"$tmp/watch" 2>"$tmp/err" &
watch=$!

"$umig" set --pid "$pid" --pause && status_is "s['paused']"
ok $? "set.pause_is_shown" "$tmp/err"
# It looks once a second.
within 10 has_line "$tmp/watch" "paused"
ok $? "status.watch_shows_a_pause" "$tmp/watch"
# Without a limit background would be done long before the fake's vCPUs have got so many pages.
"$umig" set --pid "$pid" --rate 0
demand() { status && jq '.[0].demand_pages' "$tmp/status"; }
background() { status && jq '.[0].present_pages - .[0].demand_pages' "$tmp/status"; }
within 20 status_is "s['demand_pages'] > $(demand) + 200"
before=$(background)
within 20 status_is "s['demand_pages'] > $(demand) + 200"
# The two numbers are not read in the same moment. Not paused it would bring ten thousand.
[ "$(background)" -le $((before + 500)) ]
ok $? "set.pause_stops_background" "$tmp/status"
"$umig" set --pid "$pid" --rate 1M
status_is "s['demand_pages'] > 0" && demand=$(jq '.[0].demand_pages' "$tmp/status") &&
	within 10 status_is "s['demand_pages'] > $demand"
ok $? "set.pause_leaves_demand_alone" "$tmp/status"

# --- since when the source is lost
server_stop
within 10 status_is "s['source_lost_seconds'] is not None and s['source_lost_seconds'] > 0.5"
ok $? "status.says_since_when_the_source_is_lost" "$tmp/status"
"$umig" status >"$tmp/out" && has_line "$tmp/out" "no source [0-9]* s"
ok $? "status.shows_it_to_a_person" "$tmp/out"
server_start "${server[@]}"
within 10 status_is "s['source_lost_seconds'] is None and s['paused'] and s['rate'] == 1 << 20"
ok $? "set.survives_a_reconnect" "$tmp/status"

"$umig" set --pid "$pid" --rate 2x 2>"$tmp/err"
[ $? = 2 ]
ok $? "set.bad_rate_exits_2" "$tmp/err"
"$umig" set --pid "$pid" 2>"$tmp/err"
[ $? = 2 ]
ok $? "set.nothing_exits_2" "$tmp/err"
"$umig" set --pid "$pid" --switch --rate 5M 2>"$tmp/err"
[ $? = 3 ] && status_is "s['rate'] == 1 << 20"
ok $? "set.refused_changes_nothing" "$tmp/err"
"$umig" set --pid 1 --pause 2>"$tmp/err"
[ $? = 5 ] && has_line "$tmp/err" "no running umig"
ok $? "set.unknown_process_exits_5" "$tmp/err"

# --- hostile or broken clients
python3 - "$UMIG_RUN_DIR/$pid.sock" <<'PY'
import socket, sys
for junk in (b"", b"\n", b"{}\n", b"[" * 4000 + b"\n", b'{"command": 5}\n', b"x" * 9000,
             b'{"command":"set","rate":-1}\n', b'{"command":"set","rate":"fast"}\n'):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    try:
        s.send(junk)
        s.shutdown(socket.SHUT_WR)
        s.recv(100)
    except OSError:
        pass
    s.close()
PY
status_is "s['rate'] == 1 << 20"
ok $? "monitor.survives_junk" "$tmp/err"
[ "$(stat -c %a "$UMIG_RUN_DIR")" = 700 ] && [ "$(stat -c %a "$UMIG_RUN_DIR/$pid.sock")" = 600 ]
ok $? "monitor.is_for_the_owner_alone"

"$umig" set --pid "$pid" --rate 0 --continue
ok $? "set.rate_and_continue" "$tmp/err"
wait "$pid" && fake_is_whole "$tmp/img"
ok $? "set.then_it_completes" "$tmp/pull"
"$umig" status --pid "$pid" 2>"$tmp/err"
[ $? = 5 ] && [ ! -e "$UMIG_RUN_DIR/$pid.sock" ]
ok $? "status.of_one_that_has_ended_exits_5" "$tmp/err"
wait "$watch"
ok $? "status.watch_ends_with_it" "$tmp/watch"
finish
