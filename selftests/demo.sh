#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make demo`: in a test VM, a stock QEMU guest with KVM that checks its own memory
# moves to another stock QEMU by postcopy. Called with --inside it is in the VM.

set -u
cd "$(dirname "$0")/.." || exit 1
kernel=${KERNEL:-6.12}

if [ "${1-}" != --inside ]; then
	export DEBIAN=${DEBIAN-$(scripts/kernel.sh "$kernel" debian)}
	make -s modules umig selftests KERNEL="$kernel" >/dev/null || exit 1
	interactive=
	[ ! -t 1 ] || interactive=--interactive
	exec selftests/qemu/vm.sh --kernel "$kernel" --mem 4G --timeout 480 $interactive -- \
		env KERNEL="$kernel" selftests/demo.sh --inside
fi

# The guest computes on most of its memory.
export GUEST_MIB=${GUEST_MIB:-320}
# shellcheck disable=SC2034 # for scenario.sh
guest_kind=linux
# shellcheck source=selftests/lib/scenario.sh
. selftests/lib/scenario.sh

step()
{
	printf '\n== %s\n' "$*"
}

die()
{
	echo "demo: $*" >&2
	examine_failure
	# shellcheck disable=SC2034 # scenario_cleanup() shows the logs then
	failed=y
	exit 1
}

insmod "$build/$kernel/drivers/postcopy/postcopy.ko" || exit 1
step "Linux $(uname -r), stock $(qemu-system-x86_64 --version | head -n 1)"
echo "Starting the source guest: ${memory_mib} MiB, 2 vCPUs. It fills $GUEST_MIB MiB with data it"
echo "can predict, rewrites a part of it all the time and verifies all of it."
# shellcheck disable=SC2119 # no options
source_start || die "the guest did not start"

step "Starting the destination: its RAM is a mapping of /dev/postcopy"
# shellcheck disable=SC2119
destination_start || die "the destination did not start"
"$umig" list

step "umig send --qmp source.qmp --to unix:control    (umig recv shows its progress)"
{
	within 20 test -S "$tmp/control" && send_start source "unix:$tmp/control" --json && wait "$send_pid"
} &
sending=$!
"$umig" recv --qmp "$tmp/destination.qmp" --listen "unix:$tmp/control" || die "recv failed"
wait "$sending" || die "send failed"

step "The guest's verdict"
guest_goes_on destination || die "the guest was harmed"

step "The module goes, the guest stays"
mapped_anonymous "$destination_pid" || die "the memory is not anonymous"
rmmod postcopy || die "the module does not unload"
echo "memory is anonymous, postcopy.ko is unloaded"
guest_goes_on destination || die "the guest was harmed"

step "Summary"
grep '^{' "$tmp/send.out" | jq -r 'select(.event == "summary") |
	"downtime \(.downtime_ms | round) ms, total \(.seconds * 10 | round / 10) s, \(.demand_pages) demand faults"'
echo "guest: $(guest_rounds source) rounds at the source, $(guest_rounds destination) at the destination, wrong bytes: 0"

# The guests end with the VM, which has nothing left to do.
trap - EXIT
