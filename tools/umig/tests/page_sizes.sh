#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Hosts with other pages than this one's: umig-fake claims pages of 16 KiB.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_qemu.sh"

large=16384

# with_large COMMAND... - umig-fake has large pages; umig and the page servers have this host's
with_large() {
	UMIG_FAKE_PAGE_SIZE=$large "$@"
}

# --- a guest does not move between hosts of different page size, and nothing has happened to it
pair -S
with_large recv_start dst "unix:$tmp/ctl"
send_run --to "unix:$tmp/ctl"
code=$?
[ $code = 6 ] && has_line "$tmp/send.err" "source's host has pages of 4096 bytes, the destination's of $large" &&
	has_line "$tmp/send.err" "umig snapshot"
ok $? "send.to_a_host_with_larger_pages_says_so" "$tmp/send.err"
recv_kill
fake_is_empty && vmm_is src prelaunch && vmm_is dst inmigrate
ok $? "send.refused_for_its_page_size_leaves_both_guests_alone" "$tmp/recv.err"
recv_start dst "unix:$tmp/ctl"
with_large timeout 60 "$fake" send --qmp "$tmp/src.qmp" --to "unix:$tmp/ctl" 2>"$tmp/send.err"
code=$?
wait "$recv_pid"
rcode=$?
[ $code = 6 ] && [ $rcode = 3 ] && fake_is_empty &&
	has_line "$tmp/recv.err" "source's host has pages of $large bytes, the destination's of 4096"
ok $? "recv.from_a_host_with_larger_pages_is_refused" "$tmp/recv.err"

# --- a snapshot does, either way: the digest has units of its own
"$umig" snapshot --qmp "$tmp/src.qmp" --pause "$tmp/small" 2>"$tmp/err"
ok $? "snapshot.with_small_pages" "$tmp/err"
vmm_kill src
qemu src "$tmp/src.ram" -S
with_large "$fake" snapshot --qmp "$tmp/src.qmp" --pause "$tmp/large" 2>"$tmp/err"
ok $? "snapshot.with_large_pages" "$tmp/err"
[ "$(jq .page_size "$tmp/small/meta.json" "$tmp/large/meta.json" | xargs)" = "4096 $large" ] &&
	[ "$(jq -c '[.digest,.zero_pages,.data_pages]' "$tmp/small/meta.json")" = \
	  "$(jq -c '[.digest,.zero_pages,.data_pages]' "$tmp/large/meta.json")" ]
ok $? "snapshot.has_one_digest_whatever_the_pages" "$tmp/large/meta.json"
end_pair

# restore_into NAME SNAPSHOT VCPUS [OPTION]... - a fresh QEMU and a fresh region
restore_into() {
	local name=$1 snapshot=$2 pid=${1}_pid
	fake_region 64 "$3"
	shift 3
	truncate -s 64M "$tmp/ram"
	qemu "$name" "$tmp/ram" -incoming defer
	export UMIG_FAKE_PID=${!pid} UMIG_FAKE_PATH=$tmp/ram
	timeout 60 "$fake" restore --qmp "$tmp/$name.qmp" --json "$@" "$tmp/$snapshot" \
		>"$tmp/out" 2>"$tmp/err"
}

# converted PAGES - the summary says so, and every page came once and is right
converted() {
	tail -n 1 "$tmp/out" | jq -e ".converted and .total_pages == $1" >>"$tmp/err" &&
		fake_is_whole "$tmp/small/ram.raw"
}

with_large restore_into up small 4 && converted 4096
ok $? "restore.on_a_host_with_larger_pages" "$tmp/err"
restore_into down large 4 && converted 16384
ok $? "restore.on_a_host_with_smaller_pages" "$tmp/err"
printf 'x' | dd of="$tmp/small/ram.raw" bs=1 seek=10000000 conv=notrunc status=none
with_large restore_into damaged small 0
[ $? = 8 ] && has_line "$tmp/err" "the contents differ" &&
	[ "$(tail -c 1 "$tmp/map" | od -An -tu1 | tr -d ' ')" = 0 ]
ok $? "restore.of_a_damaged_image_is_not_converted_with_larger_pages_either" "$tmp/err"
cp "$tmp/large/ram.raw" "$tmp/small/ram.raw"

# --- a working set is of use on both: the pages with a touched page in them come first
first_reads() {
	server_start nbdkit -f -r -t 1 -U "$tmp/s" --filter=log file "$tmp/small/ram.raw" \
		logfile="$tmp/log"
	"$@" --from "nbd+unix:///?socket=$tmp/s" --replay --connections 1
	local status=$?
	server_stop TERM
	# Demand reads the first page once, and throws it away.
	grep -o ' Read .*offset=0x[0-9a-f]* count=0x[0-9a-f]*' "$tmp/log" |
		sed 's/.*offset=\(0x[0-9a-f]*\) count=\(0x[0-9a-f]*\).*/\1 \2/' | sed 1d | head -n 2 |
		while read -r offset count; do echo "$((offset)) $((count))"; done >"$tmp/reads"
	return $status
}
# Pages 4001 to 4010 of 4 KiB are in pages 1000 to 1002 of 16 KiB.
echo '{"umig_working_set":1,"page_size":4096,"pages":16384,"runs":[[4001,10],[8000,1]]}' \
	>"$tmp/small/working_set.json"
first_reads with_large restore_into set_up small 0 && converted 4096 &&
	[ "$(xargs <"$tmp/reads")" = "$((1000 * large)) $((3 * large)) $((2000 * large)) $large" ]
ok $? "restore.replays_a_working_set_of_smaller_pages" "$tmp/reads"
echo '{"umig_working_set":1,"page_size":16384,"pages":4096,"runs":[[1000,3],[2000,1]]}' \
	>"$tmp/small/working_set.json"
first_reads restore_into set_down small 0 && converted 16384 &&
	[ "$(xargs <"$tmp/reads")" = "$((1000 * large)) $((3 * large)) $((2000 * large)) $large" ]
ok $? "restore.replays_a_working_set_of_larger_pages" "$tmp/reads"
echo '{"umig_working_set":1,"page_size":16384,"pages":4095,"runs":[]}' >"$tmp/small/working_set.json"
restore_into set_bad small 0 --replay
[ $? = 3 ] && has_line "$tmp/err" "no working set of this RAM image" && [ ! -e "$tmp/map" ]
ok $? "restore.of_a_working_set_of_another_image_exits_3" "$tmp/err"

# --- RAM that is no whole number of large pages
mkdir "$tmp/odd"
jq '.ram_size = 67112960 | .zero_pages = 16385 | .data_pages = 0' "$tmp/small/meta.json" >"$tmp/odd/meta.json"
with_large restore_into odd odd 0
[ $? = 3 ] && has_line "$tmp/err" "no whole pages" && fake_is_empty
ok $? "restore.of_ram_that_is_no_whole_pages_is_refused" "$tmp/err"

# --- pull takes what a server of another page size has: NBD counts bytes
make_image "$tmp/img" 64
serve_start --file "$tmp/img" --listen "unix:$tmp/pages"
for region in fake_region fake_shared_region; do
	"$region" 64 8
	with_large pull --from "$uri" && fake_is_whole "$tmp/img"
	ok $? "pull.of_large_pages_into_a_${region#fake_}" "$tmp/err"
done
serve_stop
finish
