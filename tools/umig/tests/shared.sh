#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# pull into a shared region: background receives in place, and present pages belong to the guest.
. "$(dirname "$0")/lib.sh"

make_image "$tmp/img" 32
uri="nbd+unix:///?socket=$tmp/s"

check_source shared.from_a_file fake_shared_region 32 "$tmp/img" nbdkit -f -r -U "$tmp/s" file "$tmp/img"
check_source shared.from_umigs_plugin fake_shared_region 32 "$tmp/img" nbdkit -f -r -U "$tmp/s" \
	"$UMIG_PLUGIN_DIR/nbdkit-umig-plugin.so" "$tmp/img"
check_source shared.without_extents fake_shared_region 32 "$tmp/img" nbdkit -f -r -U "$tmp/s" --filter=noextents file "$tmp/img"
check_source shared.without_structured_replies fake_shared_region 32 "$tmp/img" nbdkit -f -r --no-sr -U "$tmp/s" file "$tmp/img"
check_source shared.from_a_slow_source fake_shared_region 32 "$tmp/img" nbdkit -f -r -U "$tmp/s" --filter=delay file "$tmp/img" rdelay=5ms
check_source shared.from_one_that_fails_now_and_then fake_shared_region 32 "$tmp/img" nbdkit -f -r -U "$tmp/s" --filter=error \
	file "$tmp/img" error=EIO error-pread-rate=5%

# --- background has everything in flight and gets nothing: demand does not wait for it
server_start nbdkit -f -r -U "$tmp/s" eval get_size='echo 4194304' thread_model='echo parallel' \
	pread="if [ \$3 -gt 4096 ]; then until [ -e '$tmp/go' ]; do sleep 0.05; done; fi
	dd if='$tmp/img' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 status=none"
fake_shared_region 4 8
pull_start --from "$uri" --json --timeout 60
within 30 fake_has_pages 100
ok $? "take.demand_does_not_wait_behind_background" "$tmp/err"
fake_is_sound <(head -c 4M "$tmp/img")
ok $? "take.its_pages_are_right"
# 1024 pages are fewer than two connections have in flight.
touch "$tmp/go"
wait "$pid" && fake_is_whole <(head -c 4M "$tmp/img")
ok $? "take.what_comes_late_is_written_to_no_present_page" "$tmp/err"
tail -1 "$tmp/out" | jq -e '.demand_pages >= 100 and .background_pages > 0' >"$tmp/jq"
ok $? "take.both_have_brought_pages" "$tmp/out"
server_stop

# --- killed and started again
server_start nbdkit -f -r -U "$tmp/s" file "$tmp/img"
# (no faults: they would finish it before it is killed)
fake_shared_region 32 0
for want in 4200 4500; do
	pull_start --from "$uri" --json --rate 1M
	within 20 fake_has_pages $want
	end KILL "$pid"
	fake_is_sound "$tmp/img"
	ok $? "kill.after_${want}_pages_leaves_no_wrong_page" "$tmp/err"
done
pull --from "$uri" && fake_is_whole "$tmp/img"
ok $? "kill.third_one_finishes" "$tmp/err"

# --- the source is killed and comes back
fake_shared_region 32 8
UMIG_FAKE_WORK_US=20000 pull_start --from "$uri" --json --rate 2M
within 20 fake_has_pages 4500
server_stop
within 30 has_line "$tmp/err" "no connection to the source" && fake_is_sound "$tmp/img"
ok $? "source.lost_leaves_no_wrong_page" "$tmp/err"
server_start nbdkit -f -r -U "$tmp/s" file "$tmp/img"
wait "$pid" && fake_is_whole "$tmp/img"
ok $? "source.back_goes_on" "$tmp/err"

# --- replies are cut after every number of bytes: pages of a cut reply stay missing
"$here/cutter" "$tmp/c" "$tmp/s" 300 &
within 60 test -S "$tmp/c"
sound=$?
fake_shared_region 1 2
pull_start --from "nbd+unix:///?socket=$tmp/c" --connections 1
end=$((SECONDS + 8))
while [ $SECONDS -lt $end ] && kill -0 "$pid" 2>/dev/null; do
	[ -s "$tmp/map" ] && { fake_is_sound <(head -c 1M "$tmp/img") || sound=1; }
	sleep 0.3
done
ok $sound "cut.no_page_is_ever_wrong" "$tmp/err"
end TERM "$pid"
server_stop
server_start nbdkit -f -r -U "$tmp/s" file "$tmp/img"
pull --from "$uri" && fake_is_whole <(head -c 1M "$tmp/img")
ok $? "cut.a_good_source_finishes_what_is_there" "$tmp/err"
server_stop
finish
