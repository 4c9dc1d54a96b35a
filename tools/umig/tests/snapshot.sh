#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# snapshot and restore with stock QEMUs; /dev/postcopy is a file here.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_qemu.sh"

make_image "$tmp/src.ram" 64
qemu src "$tmp/src.ram" -S
"$umig" snapshot --qmp "$tmp/src.qmp" --pause --json "$tmp/snap" >"$tmp/out" 2>"$tmp/err"
code=$?
[ $code = 0 ] && cmp "$tmp/src.ram" "$tmp/snap/ram.raw"
ok $? "snapshot.has_the_ram" "$tmp/err"
[ "$(stat -c %b "$tmp/snap/ram.raw")" -lt $(("$(stat -c %s "$tmp/snap/ram.raw")" * 3 / 2048)) ]
ok $? "snapshot.is_sparse"
[ "$(stat -c %a "$tmp/snap")" = 700 ] && [ "$(stat -c %a "$tmp/snap/ram.raw")" = 600 ]
ok $? "snapshot.is_for_the_owner_alone"
"$umig" snapshot --qmp "$tmp/src.qmp" --pause "$tmp/again" 2>"$tmp/err"
[ $? = 3 ] && [ ! -e "$tmp/again" ] && has_line "$tmp/err" "postmigrate"
ok $? "snapshot.of_a_guest_that_has_gone_is_refused" "$tmp/err"
vmm_kill src
qemu src "$tmp/src.ram" -S
"$umig" snapshot --qmp "$tmp/src.qmp" --pause "$tmp/snap" 2>"$tmp/err"
[ $? = 1 ] && cmp "$tmp/src.ram" "$tmp/snap/ram.raw" && has_line "$tmp/err" "directory of its own"
ok $? "snapshot.does_not_touch_what_is_there" "$tmp/err"

# --- out of room: nothing is left, the guest is as it was
if mkdir "$tmp/full" && mount -t tmpfs -o size=4m none "$tmp/full" 2>/dev/null; then
	"$umig" snapshot --qmp "$tmp/src.qmp" --pause "$tmp/full/snap" 2>"$tmp/err"
	[ $? = 6 ] && [ ! -e "$tmp/full/snap" ] && has_line "$tmp/err" "No space left" &&
		vmm_is src postmigrate
	ok $? "snapshot.without_room_leaves_nothing" "$tmp/err"
	umount "$tmp/full"
fi

# restore_into NAME [OPTION]... - a fresh QEMU and a fresh region
restore_into() {
	local name=$1
	shift
	fake_region 64 "${fake_vcpus:-0}"
	[ -z "${fake_step-}" ] || export UMIG_FAKE_STEP=$fake_step
	truncate -s 64M "$tmp/ram"
	qemu "$name" "$tmp/ram" -incoming defer
	local pid=${name}_pid
	export UMIG_FAKE_PID=${!pid} UMIG_FAKE_PATH=$tmp/ram
	timeout 60 "$fake" restore --qmp "$tmp/$name.qmp" "$@" "$tmp/snap" >"$tmp/out" 2>"$tmp/err"
}

restore_into one --json && fake_is_whole "$tmp/snap/ram.raw"
ok $? "restore.brings_every_page_once_and_converts" "$tmp/err"
tail -1 "$tmp/out" | grep -q '"converted":true'
ok $? "restore.prints_a_summary" "$tmp/out"
qmp one qom-list '{"path":"/objects"}' | grep -q '"ram"' &&
	! qmp one qom-list '{"path":"/objects"}' | grep -q umig
ok $? "restore.leaves_nothing_in_qemu"
if [ "$(id -u)" = 0 ]; then
	# Root without its capabilities, as it fills.
	chown -R nobody "$tmp/snap"
	restore_into other && fake_is_whole "$tmp/snap/ram.raw"
	ok $? "restore.by_root_of_another_users_snapshot" "$tmp/err"
	restore_into other --record 1
	[ $? = 3 ] && has_line "$tmp/err" "cannot record into" && fake_is_empty
	ok $? "restore.record_into_what_it_may_not_write_to_begins_nothing" "$tmp/err"
	chown -R root "$tmp/snap"
fi
server_start qemu-nbd -r -f raw -e 4 -t -k "$tmp/s" "$tmp/snap/ram.raw"
restore_into two --from "nbd+unix:///?socket=$tmp/s" && fake_is_whole "$tmp/snap/ram.raw"
ok $? "restore.from_any_nbd_server" "$tmp/err"
server_stop

# --- the working set: learned from one restore, read first in another
# logging_server OPTION... - an NBD server that writes down what is read
logging_server() {
	rm -f "$tmp/log"
	server_start nbdkit -f -r -t 1 -U "$tmp/s" --filter=log --filter=delay file "$tmp/snap/ram.raw" \
		logfile="$tmp/log" "$@"
}
# Pages in the order they were read. Demand reads one page first and throws it away; that is left out.
pages_read() {
	python3 - "$tmp/log" <<'PY'
import re, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
reads = re.findall(r" Read .*offset=(0x[0-9a-f]*) count=(0x[0-9a-f]*)", open(sys.argv[1]).read())
if ("0x0", "0x1000") in reads:
    reads.remove(("0x0", "0x1000"))
for offset, count in reads:
    print(*range(int(offset, 16) // 4096, (int(offset, 16) + int(count, 16)) // 4096), sep="\n")
PY
}
pages_in_set() {
	python3 -c "import json
for first, nr in json.load(open('$tmp/snap/working_set.json'))['runs']:
    print(*range(first, first + nr), sep='\n')"
}
logging_server rdelay=4ms
fake_vcpus=1 restore_into record --from "nbd+unix:///?socket=$tmp/s" --record 1 &&
	fake_is_whole "$tmp/snap/ram.raw"
ok $? "restore.record_brings_every_page" "$tmp/err"
server_stop TERM
n=$(pages_in_set | wc -l)
[ "$n" -gt 20 ] && [ "$n" -lt 2000 ] &&
	cmp <(pages_in_set | sort) <(pages_read | head -n "$n" | sort)
ok $? "restore.record_keeps_what_was_touched_and_nothing_else" "$tmp/snap/working_set.json"
logging_server rdelay=0
restore_into replay --from "nbd+unix:///?socket=$tmp/s" --replay --connections 1 &&
	fake_is_whole "$tmp/snap/ram.raw" &&
	cmp <(pages_in_set) <(pages_read | head -n "$n")
ok $? "restore.replay_reads_the_working_set_first_and_in_its_order" "$tmp/err"
server_stop TERM
logging_server rdelay=4ms
fake_vcpus=1 restore_into ahead --from "nbd+unix:///?socket=$tmp/s" &&
	fake_is_whole "$tmp/snap/ram.raw"
ok $? "restore.with_a_guest_that_faults_brings_every_page" "$tmp/err"
server_stop TERM
first=$(pages_read | head -n 1)
cmp <(pages_read | head -n 4 | sort -n) <(seq $((first / 4 * 4)) $((first / 4 * 4 + 3))) >"$tmp/err"
ok $? "restore.reads_the_neighbours_of_a_page_while_devices_are_loaded" "$tmp/err"
# Four threads go through the pages in order, so they want pages that are on their way as neighbours.
logging_server rdelay=4ms
fake_vcpus=4 fake_step=1 restore_into neighbours --from "nbd+unix:///?socket=$tmp/s" --json &&
	fake_is_whole "$tmp/snap/ram.raw" &&
	tail -n 1 "$tmp/out" | jq -e '.demand_pages > 0 and .converted' >>"$tmp/err"
ok $? "restore.a_neighbour_that_is_wanted_is_installed_once" "$tmp/err"
server_stop TERM
for set in '' '[]' '{"umig_working_set":1,"page_size":4096,"pages":16384,"runs":[[16000,385]]}' \
	'{"umig_working_set":1,"page_size":4096,"pages":99,"runs":[]}'; do
	printf '%s' "$set" >"$tmp/snap/working_set.json"
	"$fake" restore --qmp "$tmp/replay.qmp" --replay "$tmp/snap" 2>"$tmp/err"
	code=$?
	[ $code = 3 ] || break
done
[ $code = 3 ] && has_line "$tmp/err" "working set"
ok $? "restore.of_no_working_set_exits_3" "$tmp/err"
rm "$tmp/snap/working_set.json"

# --- damaged snapshots
cp "$tmp/snap/ram.raw" "$tmp/keep"
printf 'x' | dd of="$tmp/snap/ram.raw" bs=1 seek=10000000 conv=notrunc status=none
restore_into three
[ $? = 8 ] && has_line "$tmp/err" "the contents differ" &&
	[ "$(tail -c 1 "$tmp/map" | od -An -tu1 | tr -d ' ')" = 0 ]
ok $? "restore.of_a_damaged_image_is_not_converted" "$tmp/err"
cp "$tmp/keep" "$tmp/snap/ram.raw"
cp "$tmp/snap/state.bin" "$tmp/keep"
printf 'x' | dd of="$tmp/snap/state.bin" bs=1 seek=1000 conv=notrunc status=none
restore_into four
[ $? = 1 ] && has_line "$tmp/err" "not what was saved"
ok $? "restore.of_a_damaged_state_does_not_start" "$tmp/err"
truncate -s 1000 "$tmp/snap/state.bin"
restore_into five
[ $? = 1 ] && has_line "$tmp/err" "not what was saved"
ok $? "restore.of_a_short_state_does_not_start" "$tmp/err"
cp "$tmp/keep" "$tmp/snap/state.bin"
for meta in '' '{}' '[1]' '{"umig_snapshot": 1, "ram_id": "ram", "ram_size": -4096}'; do
	printf '%s' "$meta" >"$tmp/meta"
	mkdir -p "$tmp/bad" && cp "$tmp/meta" "$tmp/bad/meta.json"
	"$fake" restore --qmp "$tmp/five.qmp" "$tmp/bad" 2>"$tmp/err"
	code=$?
	[ $code = 3 ] || break
done
[ $code = 3 ] && has_line "$tmp/err" "not what umig writes\|is no snapshot"
ok $? "restore.of_no_snapshot_exits_3" "$tmp/err"
"$umig" restore --qmp "$tmp/five.qmp" 2>"$tmp/err"
[ $? = 2 ]
ok $? "restore.without_a_directory_exits_2" "$tmp/err"
finish
