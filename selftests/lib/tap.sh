# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# The library of all test scripts: TAP, waiting for something, a scratch directory in $tmp, and
# the end of everything the script has started. Sourced; a script ends with finish.

# In memory: some tests compare what is in it with what is in guests.
tmp=$(mktemp -d /dev/shm/test.XXXXXX)
nr_tests=0
failed=
# A background process that must end after all others
last_pid=
# Seconds between two tries of within()
poll=0.02

# end SIGNAL PID... - sends the signal to those of the script's background processes that still run,
# and waits for them. The number of a process that has ended may belong to a stranger by now.
end()
{
	local signal=$1 pid
	shift

	for pid; do
		! jobs -rp | grep -qx "$pid" || kill -"$signal" "$pid"
	done 2>/dev/null
	for pid; do wait "$pid"; done 2>/dev/null
}

cleanup()
{
	local pids

	# A child that is killed before its exec runs this trap, too.
	[ "$BASHPID" = $$ ] || return
	mapfile -t pids < <(jobs -rp | grep -vx "${last_pid:-none}")
	end KILL "${pids[@]}"
	[ ! "$last_pid" ] || end KILL "$last_pid"
	rm -rf "$tmp"
}
trap cleanup EXIT

# ok STATUS NAME [FILE] - one test; if it failed, the end of FILE is shown
ok()
{
	nr_tests=$((nr_tests + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $nr_tests - $2"
		return
	fi
	# awk ends the last line, if FILE does not.
	[ ! -e "${3-}" ] || tail -n 40 "$3" | awk '{ print "# " $0 }'
	echo "not ok $nr_tests - $2"
	failed=y
}

# check NAME COMMAND... - one test: does the command succeed?
check()
{
	local name=$1 status=0
	shift

	"$@" >"$tmp/check.out" 2>&1 || status=$?
	[ "$status" -eq 0 ] || examine_failure >>"$tmp/check.out" 2>&1
	ok "$status" "$name" "$tmp/check.out"
}

# examine_failure - what else check() shows of a failure; scenario.sh has another one
examine_failure()
{
	:
}

# skip NAME REASON - one test that cannot be done here
skip()
{
	nr_tests=$((nr_tests + 1))
	echo "ok $nr_tests - $1 # SKIP $2"
}

# skip_all REASON - none of this script's tests can be done here
skip_all()
{
	echo "1..0 # SKIP $*"
	exit 4
}

finish()
{
	echo "1..$nr_tests"
	[ ! "$failed" ]
	exit
}

# within SECONDS COMMAND... - polls until the command succeeds. The output of the last try only is
# shown.
within()
{
	local end=$((SECONDS + $1))
	shift

	until "$@" >/dev/null 2>&1; do
		# The command itself may have taken long, so it is tried once more.
		[ "$SECONDS" -lt "$end" ] || { "$@" >&2; return; }
		sleep "$poll"
	done
}

# has_line FILE PATTERN
has_line()
{
	grep -q -- "$2" "$1"
}
