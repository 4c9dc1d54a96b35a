#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Which pages come first, how long a thread waits for one, and that no page comes twice.
. "$(dirname "$0")/lib.sh"

uri="nbd+unix:///?socket=$tmp/s"
head -c 16M /dev/urandom >"$tmp/img"

nbdkit -f -r -U "$tmp/server" file "$tmp/img" >"$tmp/server.log" 2>&1 &
within 60 test -S "$tmp/server"
server_start ./line.py "$tmp/s" "$tmp/server" $((8 << 20)) 0.001

# order VCPUS [STEP] - prints REPEATED-PAGES DEMAND-FAULTS, their MEDIAN and MAXIMUM in microseconds
order() {
	fake_region 16 "$1"
	[ -z "$2" ] || export UMIG_FAKE_STEP=$2
	pull --from "$uri" --json &&
		fake_is_whole "$tmp/img" &&
		tail -n 1 "$tmp/out" | jq -r '"\(.repeated_pages) \(.requests) \(.p50_ns / 1000 | floor) \(.max_ns / 1000 | floor)"'
}

# A thread that goes through the pages takes a little longer for each than the line does. If
# background did not follow, there would be 150 to 300 faults in each of the three cases.
export UMIG_FAKE_WORK_US=700
read -r repeated forward median _ < <(order 1 1)
echo "# forward: $forward faults, $repeated pages twice, median $median us"
[ "$forward" -le 100 ]
ok $? "order.who_goes_forward_seldom_waits" "$tmp/err"
read -r repeated backward median _ < <(order 1 -1)
echo "# backward: $backward faults, $repeated pages twice, median $median us"
[ "$backward" -le 100 ]
ok $? "order.who_goes_backward_seldom_waits" "$tmp/err"
# Two vCPUs do this if their memory was allocated at the same time.
export UMIG_FAKE_WORK_US=1400
read -r repeated both median _ < <(order 2 1)
echo "# two forward near each other: $both faults, $repeated pages twice, median $median us"
[ "$both" -le 100 ]
ok $? "order.two_who_go_forward_near_each_other_seldom_wait" "$tmp/err"
unset UMIG_FAKE_WORK_US

# The pages that background asks for ahead take a second on this line: 8 MiB, on two connections.
read -r repeated faults median max < <(order 8)
echo "# at random: $faults faults, $repeated pages twice, median $median us, longest $max us"
[ "$faults" -gt 0 ] && [ "$median" -lt 100000 ]
ok $? "order.nobody_waits_for_what_was_asked_for_ahead" "$tmp/err"
# If the machine stands still for PATIENCE_NS (demand.c), demand asks again, rightly.
if [ "$repeated" -gt 0 ] && [ "$max" -ge 200000 ]; then
	skip order.no_page_comes_twice "the machine stood still for $max us"
else
	[ "$repeated" = 0 ]
	ok $? "order.no_page_comes_twice" "$tmp/err"
fi
server_stop
finish
