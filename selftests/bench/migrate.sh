#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Rows 11 and 12: a whole migration of a stock QEMU guest that writes all the time.
# Wall clock, run inside the test VM by run.sh.
#
# 11: ours / QEMU's own postcopy with postcopy-preempt, both without a precopy round,
#     same guest, in turns: downtime; total time as each of them reports it; pages the
#     guest has worked on in the first 5 s (by its own clock) after its last sign of
#     life at the source. Downtime is from the source QEMU's STOP event to the
#     destination's RESUME. QEMU's own figure for its postcopy ends when the source has
#     sent the device state, before the destination loads it.
# 12: our downtime with a guest of 1024 MiB / of 256 MiB, which begin in turns.
#
# ROWS="11 12" and ROUNDS=9 choose. The VM often ends before that many rounds are done (see
# emulator.sh). /out outlives the VM and keeps the rounds, so the next boot goes on.

# What a real guest does, and what earlier measurements had.
# shellcheck disable=SC2034 # for scenario.sh
guest_kind=linux
# shellcheck source-path=SCRIPTDIR source=../lib/scenario.sh
. "$(dirname "$0")/../lib/scenario.sh"

rounds=${ROUNDS:-9}
# Ours at its best: pages are received in place. QEMU's postcopy has no such choice.
# shellcheck disable=SC2034 # for destination_start
destination_share=on

die()
{
	echo "migrate.sh: $*" >&2
	tail -n 3 "$tmp"/*.serial >&2
	# shellcheck disable=SC2034 # scenario_cleanup() prints the logs
	failed=y
	exit 1
}

# no_round TEXT - nothing could be measured, so the VM starts again; but wrong bytes are final
no_round()
{
	! grep -qs 'wrong page\|wrong bytes [1-9]' "$tmp"/*.serial || die "the guest has found wrong bytes"
	emulator_void no_round "$*" >&3
}

# qmp_do NAME COMMAND [ARGUMENTS]
qmp_do()
{
	qmp "$@" | grep -q '"return"'
}

# Keeps the events of a QEMU that was started with listening NAME.
listen()
{
	within 20 test -S "$tmp/$1.events" || return
	echo '{"execute":"qmp_capabilities"}' |
		socat -t 600 - "UNIX-CONNECT:$tmp/$1.events,shut-none" >"$tmp/$1.heard" &
	within 20 grep -q '"return"' "$tmp/$1.heard"
}

listen_to_both()
{
	listen source || die "no events of the source"
	listen destination || die "no events of the destination"
}

listening()
{
	echo "unix:$tmp/$1.events,server=on,wait=off"
}

# event_ms NAME EVENT - when it was, the last time
event_ms()
{
	grep "\"event\": \"$2\"" "$tmp/$1.heard" | tail -n 1 |
		jq '.timestamp.seconds * 1000 + .timestamp.microseconds / 1000'
}

downtime()
{
	jq -n "$(event_ms destination RESUME) - $(event_ms source STOP)"
}

migration_is()
{
	qmp "$1" query-migrate | grep -q "\"status\": \"$2\""
}

# MILLISECONDS PAGES of the guest's last tick in a serial log
last_tick()
{
	sed -n 's/^guest: tick \([0-9]*\) ms, pages \([0-9]*\).*/\1 \2/p' "$tmp/$1.serial" | tail -n 1
}

tick_beyond()
{
	local last

	last=$(last_tick destination)
	[ "${last% *}" ] && [ "${last% *}" -ge "$1" ]
}

# Pages done in the 5 s after the source's last tick; fails if the guest stands still or began anew
guest_work()
{
	local last

	last=$(last_tick source)
	within 60 tick_beyond "$((${last% *} + 5000))" || return
	sed -n 's/^guest: tick \([0-9]*\) ms, pages \([0-9]*\).*/\1 \2/p' "$tmp/destination.serial" |
		awk -v start="${last% *}" -v pages="${last#* }" '
			$1 < before { anew = 1 }
			{ before = $1 }
			$1 <= start + 5000 { done = $2 - pages }
			END { print done; exit anew }'
}

end_guests()
{
	vmm_kill source destination
	rm -f "$tmp"/*.{serial,qmp,test,events,heard,log,out,err} "$tmp/control" "$source_ram"
}

# source_of COMMAND... - starts the source
source_of()
{
	"$@" -qmp "$(listening source)" >/dev/null || no_round "the source does not run"
}

their_source()
{
	guest_start source share=off "$@" && within 100 guest_beyond source 0
}

# ours - prints DOWNTIME-MS TOTAL-MS PAGES, the last if wants_work says so
ours()
{
	local pages=0

	vmm_backend="memory-backend-file"
	source_of source_start
	destination_start -qmp "$(listening destination)" || die "no destination"
	listen_to_both
	migrate source destination || die "no receiver"
	both_succeed || die "send or recv failed"
	[ ! "$wants_work" ] || pages=$(guest_work) || no_round "the guest stands still or began anew"
	grep '"summary"' "$tmp/send.out" |
		jq -r ". | \"$(downtime) \\(.seconds * 1000) $pages\""
	guest_clean destination >/dev/null || die "the guest has found wrong bytes"
	end_guests
}

# theirs - same
theirs()
{
	local caps='{"capabilities":[{"capability":"postcopy-ram","state":true},{"capability":"postcopy-preempt","state":true}]}'
	local pages

	# shellcheck disable=SC2034 # vmm_start reads it
	vmm_backend="memory-backend-ram"
	source_of their_source
	guest_start destination share=off -incoming defer -qmp "$(listening destination)" ||
		die "no destination"
	listen_to_both
	qmp_do destination migrate-set-capabilities "$caps" || die "no postcopy-preempt"
	qmp_do source migrate-set-capabilities "$caps" || die "no postcopy-preempt"
	qmp_do source migrate-set-parameters '{"max-bandwidth":10737418240,"max-postcopy-bandwidth":0}'
	qmp_do destination migrate-incoming "{\"uri\":\"unix:$tmp/control\"}" || die "no incoming"
	# Both in one connection, so that the switch comes at once
	printf '{"execute":"qmp_capabilities"}{"execute":"migrate","arguments":{"uri":"%s"}}{"execute":"migrate-start-postcopy"}\n' \
		"unix:$tmp/control" |
		timeout 20 socat -t 2 - "UNIX-CONNECT:$tmp/source.qmp" >/dev/null
	within 90 migration_is source completed || no_round "QEMU's migration does not end"
	pages=$(guest_work) || no_round "the guest stands still or began anew"
	qmp source query-migrate |
		jq -r ".return | \"$(downtime) \\(.\"total-time\") $pages\""
	guest_clean destination >/dev/null || die "the guest has found wrong bytes"
	end_guests
}

# Columns 1 to 3 of a row's rounds are ours, 4 to 6 the rival's.
rounds_of()
{
	cat "/out/row_$1" 2>/dev/null
}

is_done()
{
	[ "$(rounds_of "$1" | wc -l)" -ge "$rounds" ]
}

# keep ROW WHAT - adds the round in $tmp/ours and $tmp/theirs to the row
keep()
{
	paste -d ' ' "$tmp/ours" "$tmp/theirs" >>"/out/row_$1"
	echo "# row $1: ours $(cat "$tmp/ours"), $2 $(cat "$tmp/theirs") (downtime ms, total ms, pages)"
}

# median ROW COLUMN
median()
{
	rounds_of "$1" | awk -v column="$2" '{ print $column }' | sort -g |
		awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# spread ROW COLUMN - half the range of the rounds' ratios
spread()
{
	rounds_of "$1" | awk -v column="$2" '
		{ r = $column / $(column + 3); if (NR == 1 || r < min) min = r; if (r > max) max = r }
		END { printf "%.3g", (max - min) / 2 }'
}

# row ROW COLUMN ID NAME TARGET MORE-IS-BETTER - prints it for table.py
row()
{
	awk -v ours="$(median "$1" "$2")" -v rival="$(median "$1" "$(($2 + 3))")" \
	    -v spread="$(spread "$1" "$2")" -v id="$3" -v name="$4" -v target="$5" -v more="$6" 'BEGIN {
		printf "{\"id\": \"%s\", \"name\": \"%s\", \"unit\": \"migration\", \"clock\": \"wall\", " \
		       "\"ours\": %.6g, \"rival\": %.6g, \"ratio\": %.4g, \"target\": %s, " \
		       "\"target_max\": 0, \"more_is_better\": %s, \"floor\": 0, \"spread\": %s}\n",
		       id, name, ours, rival, ours / rival, target, more, spread }'
}

row_11()
{
	wants_work=y
	# The first of each is slower, because nothing of it has run in this VM before.
	is_done 11 || { ours >/dev/null && theirs >/dev/null || exit; }
	until is_done 11; do
		ours >"$tmp/ours" || exit
		theirs >"$tmp/theirs" || exit
		keep 11 QEMU
	done
	row 11 1 11d "migration of a busy QEMU guest: downtime / QEMU's postcopy-preempt" 0.5 false
	row 11 2 11t "migration of a busy QEMU guest: total time / QEMU's postcopy-preempt" 1.0 false
	row 11 3 11w "migration of a busy QEMU guest: its work in the first 5 s / QEMU's postcopy-preempt" 1.2 true
}

# with_memory MIB COMMAND...
with_memory()
{
	# shellcheck disable=SC2034 # guest_start reads it
	local memory_mib=$1
	shift

	"$@"
}

row_12()
{
	local large_first

	wants_work=
	is_done 12 || { with_memory 256 ours >/dev/null && with_memory 1024 ours >/dev/null || exit; }
	until is_done 12; do
		large_first=$((($(rounds_of 12 | wc -l) + 1) % 2))
		[ "$large_first" = 0 ] || with_memory 1024 ours >"$tmp/ours" || exit
		with_memory 256 ours >"$tmp/theirs" || exit
		[ "$large_first" = 1 ] || with_memory 1024 ours >"$tmp/ours" || exit
		keep 12 "256 MiB"
	done
	row 12 1 12 "downtime with 1024 MiB / with 256 MiB" 1.05 false
}

for row in ${ROWS:-11 12}; do
	"row_$row"
done
