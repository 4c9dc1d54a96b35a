#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a helper can no longer do once it is attached.
. "$(dirname "$0")/lib.sh"

make_image "$tmp/img" 8
server_start nbdkit -f -r -U "$tmp/s" file "$tmp/img"
# No fake vCPUs: they are threads that begin with the attach.
fake_region 8 0
pull_start --from "nbd+unix:///?socket=$tmp/s" --rate 256K
within 10 fake_has_pages 100

# every_thread FIELD VALUE
every_thread() {
	local task
	for task in /proc/"$pid"/task/*; do
		grep -qE "^$1:[[:space:]]*$2\$" "$task/status" || { cat "$task/status" >"$tmp/status"; return 1; }
	done
}
every_thread Seccomp 2
ok $? "sandbox.filters_system_calls_of_every_thread" "$tmp/status"
every_thread NoNewPrivs 1
ok $? "sandbox.takes_no_new_privileges" "$tmp/status"
every_thread CapEff '0000000000[08]00000' && every_thread CapPrm '0000000000[08]00000' &&
	every_thread CapInh 0000000000000000
ok $? "sandbox.keeps_no_capability_but_the_nice_value" "$tmp/status"
end TERM "$pid"
fake_region 8 2
pull --from "nbd+unix:///?socket=$tmp/s" && fake_is_whole "$tmp/img"
ok $? "sandbox.leaves_enough_to_complete" "$tmp/err"
nbdkit -f -r -i 127.0.0.1 -p 47931 file "$tmp/img" &
within 5 nbdinfo nbd://localhost:47931/
fake_region 8 2
pull --from "nbd://localhost:47931/" && fake_is_whole "$tmp/img"
ok $? "sandbox.leaves_name_resolution" "$tmp/err"
finish
